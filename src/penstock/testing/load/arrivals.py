"""When conversations begin: by Poisson's law at a rate, slowly at first where asked; never by when answers came."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from random import Random


def poisson(rate_per_s: float, ramp_s: float, seed: int) -> Iterator[float]:
    """Seconds from the load's beginning. During the ramp the rate grows evenly from 0.

    A Poisson process of rate 1 is bent by the inverse of the expected count, which is rate * t * t / (2 * ramp) at first, and
    rate * (t - ramp / 2) after it (Lewis and Shedler 1979).
    """
    chance = Random(f"arrivals {seed}")  # noqa: S311  reproducible, not secret
    expected, during_ramp = 0.0, rate_per_s * ramp_s / 2.0
    while True:
        expected += chance.expovariate(1.0)
        if expected < during_ramp:
            yield sqrt(2.0 * ramp_s * expected / rate_per_s)
        else:
            yield expected / rate_per_s + ramp_s / 2.0
