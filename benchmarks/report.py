"""What every benchmark says at its end: on which machine, which targets were met, one RESULT line, one file of results."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Target:
    """A promise that `value` is at most `target`."""

    name: str
    value: float
    target: float

    @property
    def met(self) -> bool:
        return self.value <= self.target


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cores": os.cpu_count(),
        "processor": models[0] if models else platform.machine(),
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def conclude(
    benchmark: str, targets: list[Target], *, is_whole: bool = True, out: Path | None = None, **figures: Any
) -> None:
    """End with the RESULT line, where missed targets are said as missed; keep a whole run in `results/BENCHMARK.json`, any in `out`."""
    result = {"benchmark": benchmark, "targets": [{**asdict(one), "met": one.met} for one in targets]}
    kept = json.dumps({**result, "machine": machine(), **figures}, indent=2) + "\n"
    if is_whole:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{benchmark}.json").write_text(kept)
    if out is not None:
        out.write_text(kept)
    print()
    for one in targets:
        print(f"{'met   ' if one.met else 'MISSED'}  {one.name}: {one.value:g}, at most {one.target:g}")
    print("RESULT " + json.dumps(result), flush=True)
