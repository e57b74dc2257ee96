"""How far have estimates of a model's memory been off, and by how much are they corrected?

Of each engine that ran, what it took beside its KV cache is divided by what was predicted. The 95th percentile of these ratios becomes the
correction: of twenty models that it says fit, one may need more. The median is what is typical. Both are of the same model, engine, version and GPU
where such ran; else of all models there; else of other versions too: others may correct an estimate upwards, not downwards. Two errors are stated: how far estimates were off uncorrected,
and how far these runs are from what is typical of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from statistics import median

from msgspec import Struct

PERCENTILE = 0.95
RECENT = 256
"""Observations that count, newest first: engines change."""
LEAST_RATIO, MOST_RATIO = 0.1, 10.0
"""What is further off is no estimate that went wrong, but another model."""


class Observation(Struct, frozen=True, kw_only=True):
    """What one engine took on one GPU beside its KV cache, and what had been predicted. `at` is in seconds since the epoch.

    `run` tells starts apart, so that none counts twice; "" where a person brought it.
    """

    model: str
    engine: str
    version: str
    gpu: str
    predicted_bytes: int
    observed_bytes: int
    at: float = 0.0
    run: str = ""

    @property
    def ratio(self) -> float:
        """Above 1 where it took more; 0 where it cannot be told."""
        return self.observed_bytes / self.predicted_bytes if self.predicted_bytes > 0 else 0.0


class Learned(Struct, frozen=True, kw_only=True):
    """Factors and errors. `correction` is the 95th percentile, for safety, `typical` the median. `error` of uncorrected estimates and `spread` around what
    is typical are shares: 0.03 is 3 percent. `scope` says what the observations have in common.
    """

    correction: float = 1.0
    typical: float = 1.0
    error: float = 0.0
    spread: float = 0.0
    count: int = 0
    scope: str = ""

    @property
    def text(self) -> str:
        """For a person."""
        if not self.count:
            return "no observations yet: the estimate is uncorrected, and its error is not known"
        runs = f"{self.count} run{'s' if self.count > 1 else ''}"
        apart = f", error {100 * self.spread:.1f} % once corrected so" if self.count > 1 else ""
        return (
            f"learned from {runs} ({self.scope}): uncorrected estimates were off by {100 * self.error:.1f} %, typical is x {self.typical:.3f}{apart}; "
            f"the 95th percentile, x {self.correction:.3f}, is applied to all but the KV cache"
        )


UNLEARNED = Learned()


def learn(observations: Iterable[Observation], *, model: str, engine: str, version: str, gpu: str) -> Learned:
    """From those that come nearest to this model, engine, version ("" for any) and GPU."""
    here = [
        one
        for one in observations
        if one.engine == engine and one.gpu == gpu and LEAST_RATIO <= one.ratio <= MOST_RATIO
    ]
    same_version = [one for one in here if not version or one.version == version]
    released = f"{engine} {version}".rstrip()
    for found, scope, least in (
        ([one for one in same_version if one.model == model], f"this model with {released} on {gpu}", 0.0),
        (same_version, f"other models with {released} on {gpu}", 1.0),
        (here, f"other models and versions of {engine} on {gpu}", 1.0),
    ):
        if found:
            newest = sorted(found, key=lambda one: (-one.at, one.ratio))[:RECENT]
            ratios = sorted(one.ratio for one in newest)
            typical = median(ratios)
            return Learned(
                correction=max(least, ratios[ceil(PERCENTILE * len(ratios)) - 1]),
                typical=typical,
                error=median(abs(ratio - 1.0) for ratio in ratios),
                spread=median(abs(ratio / typical - 1.0) for ratio in ratios),
                count=len(ratios),
                scope=scope,
            )
    return UNLEARNED
