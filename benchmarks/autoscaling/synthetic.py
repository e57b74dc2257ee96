"""Traces made by formula, written as Azure's: shapes that show what a law does, which no target is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from math import pi, sin
from pathlib import Path
from random import Random

HOUR_S = 3600.0
RATES: Mapping[str, tuple[str, Callable[[float], float]]] = {
    "step": ("from 4 to 12 requests a second at half time", lambda at: 4.0 if at < HOUR_S / 2 else 12.0),
    "ramp": ("from 2 to 16 requests a second within the hour", lambda at: 2.0 + 14.0 * at / HOUR_S),
    "sine": (
        "8 requests a second, up and down by 6 within 20 minutes",
        lambda at: 8.0 + 6.0 * sin(2 * pi * at / 1200.0),
    ),
    "bursts": (
        "1 request a second, 20 for half a minute in every five",
        lambda at: 20.0 if at % 300.0 < 30.0 else 1.0,
    ),
}
PROMPT, ANSWER = (6.6, 0.8), (4.6, 0.8)
"""Mean and deviation of the logarithm of tokens: medians of 735 and 99."""
START = datetime(2026, 1, 1, tzinfo=UTC)


def write(folder: Path) -> dict[str, Path]:
    """One hour each, Poisson within the rate."""
    return {name: _written(folder / f"{name}.csv", name, rate) for name, (_, rate) in RATES.items()}


def _written(path: Path, name: str, rate: Callable[[float], float]) -> Path:
    chance = Random(name)
    most = max(rate(float(at)) for at in range(int(HOUR_S)))
    lines, at = ["TIMESTAMP,ContextTokens,GeneratedTokens"], 0.0
    while (at := at + chance.expovariate(most)) < HOUR_S:
        if chance.random() * most < rate(at):
            tokens = (max(1, int(chance.lognormvariate(*length))) for length in (PROMPT, ANSWER))
            when = (START + timedelta(seconds=at)).strftime("%Y-%m-%d %H:%M:%S.%f")
            lines.append(f"{when},{next(tokens)},{next(tokens)}")
    path.write_text("\n".join(lines) + "\n")
    return path
