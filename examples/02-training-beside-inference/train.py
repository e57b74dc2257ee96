"""Trains a small network, in plain Python, and keeps Penstock's checkpoint contract.

What it learns: whether a point of the plane lies within a ring. 16 tanh units, logistic output, gradient descent with momentum on mini-batches that
follow from the number of the step alone: whoever goes on from step N computes what an undisturbed run computes.

The contract is `save`, `restore` and `on_notice`: write the checkpoint, then the manifest, each by renaming a whole file; go on from the manifest's
checkpoint; when told to give way (SIGTERM), save and end with another code than 0, because 0 would say that the work is done.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

UNITS, BATCH, RATE, MOMENTUM = 16, 24, 0.08, 0.9
GIVES_WAY = 75
told = False


def on_notice(number: int, frame: FrameType | None) -> None:
    """Only a mark: the step at hand is brought to its end."""
    global told  # noqa: PLW0603
    told = True


def write(path: Path, data: bytes) -> None:
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def save(folder: Path, state: dict[str, Any]) -> None:
    began = time.monotonic()
    data = json.dumps(state).encode()
    name = f"state-{state['step'] % 2}.json"  # the other one stays whole until the manifest names this one
    write(folder / name, data)
    manifest = {
        "path": name,
        "step": state["step"],
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "save_s": round(time.monotonic() - began, 3),
        "restore_s": 0.5,
    }
    write(folder / "checkpoint.json", json.dumps(manifest).encode())
    print(f"saved step {state['step']}", flush=True)


def restore(folder: Path) -> dict[str, Any] | None:
    """What the manifest names, if it is whole."""
    try:
        manifest = json.loads((folder / "checkpoint.json").read_text())
        data = (folder / manifest["path"]).read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        return None
    state: dict[str, Any] = json.loads(data)
    return state


def begin() -> dict[str, Any]:
    chance = random.Random(7)
    weights = [chance.gauss(0.0, 1.0) for _ in range(3 * UNITS)] + [
        chance.gauss(0.0, 0.5) for _ in range(UNITS)
    ]
    return {"step": 0, "weights": [*weights, 0.0], "velocity": [0.0] * (4 * UNITS + 1), "losses": []}


def batch(step: int) -> list[tuple[float, float, float]]:
    chance = random.Random(step)
    points = [(chance.uniform(-2, 2), chance.uniform(-2, 2)) for _ in range(BATCH)]
    return [(x, y, 1.0 if 0.5 < x * x + y * y < 2.0 else 0.0) for x, y in points]


def train_step(state: dict[str, Any]) -> None:
    weights, velocity = state["weights"], state["velocity"]
    slopes, loss = [0.0] * len(weights), 0.0
    for x, y, wanted in batch(state["step"]):
        hidden = [
            math.tanh(weights[3 * i] * x + weights[3 * i + 1] * y + weights[3 * i + 2]) for i in range(UNITS)
        ]
        logit = weights[-1] + sum(weights[3 * UNITS + i] * hidden[i] for i in range(UNITS))
        answer = 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, logit))))
        loss -= math.log(answer if wanted else 1.0 - answer)
        error = answer - wanted
        slopes[-1] += error
        for i in range(UNITS):
            slopes[3 * UNITS + i] += error * hidden[i]
            back = error * weights[3 * UNITS + i] * (1.0 - hidden[i] * hidden[i])
            slopes[3 * i] += back * x
            slopes[3 * i + 1] += back * y
            slopes[3 * i + 2] += back
    for i, slope in enumerate(slopes):
        velocity[i] = MOMENTUM * velocity[i] - RATE * slope / BATCH
        weights[i] += velocity[i]
    state["step"] += 1
    state["losses"].append(loss / BATCH)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoints", type=Path, required=True, help="folder of checkpoints, as the annotation names it"
    )
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=100, help="save after so many steps")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between steps, to watch")
    chosen = parser.parse_args()
    chosen.checkpoints.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, on_notice)
    state = restore(chosen.checkpoints)
    print(f"goes on from step {state['step']}" if state else "begins", flush=True)
    state = state or begin()
    while state["step"] < chosen.steps:
        train_step(state)
        if state["step"] % 50 == 0:
            print(f"step {state['step']}: loss {state['losses'][-1]:.4f}", flush=True)
        if told:
            notice = Path(os.environ.get("PENSTOCK_NOTICE_FILE", ""))
            print(f"told to give way: {notice.read_text() if notice.is_file() else 'SIGTERM'}", flush=True)
            save(chosen.checkpoints, state)
            return GIVES_WAY
        if state["step"] % chosen.every == 0:
            save(chosen.checkpoints, state)
        time.sleep(chosen.pause)
    write(chosen.checkpoints / "losses.json", json.dumps(state["losses"]).encode())
    print(f"done after {state['step']} steps: loss {state['losses'][-1]:.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
