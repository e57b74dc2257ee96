"""The training example's loss curves, for real: one run undisturbed, one that is told to give way twice and goes on each time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

EXAMPLE = Path(__file__).parents[2] / "examples" / "02-training-beside-inference" / "train.py"
GIVES_WAY = 75
TOLD_AT = (150, 350)
"""The steps after which it is told."""
SHOWN_EVERY, SMOOTHED_OVER = 100, 50


def loss_curves() -> tuple[list[float], list[float]]:
    """Of each step: undisturbed, and of the run that gave way."""
    with TemporaryDirectory() as folder:
        alone, pushed = Path(folder) / "alone", Path(folder) / "pushed"
        _train(alone)
        for step in TOLD_AT:
            _train(pushed, told_at=step)
        _train(pushed)
        undisturbed, disturbed = (json.loads((one / "losses.json").read_text()) for one in (alone, pushed))
    return undisturbed, disturbed


def _train(folder: Path, told_at: int = 0) -> None:
    """To its end, or until it has given way. Raises RuntimeError where it ends otherwise."""
    command = [sys.executable, "-u", str(EXAMPLE), "--checkpoints", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if told_at and line.startswith(f"step {told_at}:"):
                process.terminate()
    wanted = GIVES_WAY if told_at else 0
    if process.returncode != wanted:
        raise RuntimeError(f"{EXAMPLE.name} ended with {process.returncode}, expected {wanted}")


def show_curves(undisturbed: Sequence[float], disturbed: Sequence[float]) -> float:
    """Both side by side; answers the largest difference at any step."""
    steps = range(SHOWN_EVERY, len(undisturbed) + 1, SHOWN_EVERY)
    print(
        f"\nLoss of the training example (mean of {SMOOTHED_OVER} steps), told to give way after steps {TOLD_AT}"
    )
    for name, losses in (("undisturbed", undisturbed), ("gave way", disturbed)):
        means = (sum(losses[step - SMOOTHED_OVER : step]) / SMOOTHED_OVER for step in steps)
        print(
            f"  {name:<12}"
            + "".join(f" {step:>5}: {mean:.4f}" for step, mean in zip(steps, means, strict=True))
        )
    difference = max(
        (abs(one - other) for one, other in zip(undisturbed, disturbed, strict=True)), default=1.0
    )
    print(f"  largest difference at any step: {difference:g}")
    return difference
