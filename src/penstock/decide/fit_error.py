"""How far have estimates of a model's memory been off, and by how much are they corrected?

Of each engine that ran, what it took beside its KV cache is divided by what was predicted. The 95th percentile of these ratios becomes the
correction: of twenty models that it says fit, one may need more. It is of the same model, engine, version and GPU where such ran; else of
all models there; else of other versions too. The error that is stated is the median distance of the uncorrected estimates.
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
    """What one engine took on one GPU beside its KV cache, and what had been predicted. `at` is in seconds since the epoch."""

    model: str
    engine: str
    version: str
    gpu: str
    predicted_bytes: int
    observed_bytes: int
    at: float = 0.0

    @property
    def ratio(self) -> float:
        """Above 1 where it took more; 0 where it cannot be told."""
        return self.observed_bytes / self.predicted_bytes if self.predicted_bytes > 0 else 0.0


class Learned(Struct, frozen=True, kw_only=True):
    """Factor and error; `error` is a share: 0.03 is 3 percent. `scope` says what the observations have in common."""

    correction: float = 1.0
    error: float = 0.0
    count: int = 0
    scope: str = ""

    @property
    def text(self) -> str:
        """For a person."""
        if not self.count:
            return "no observations yet: the estimate is uncorrected, and its error is not known"
        return (
            f"estimates were off by {100 * self.error:.1f} % (median of {self.count}, {self.scope}); "
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
    for found, scope in (
        ([one for one in same_version if one.model == model], f"this model with {released} on {gpu}"),
        (same_version, f"other models with {released} on {gpu}"),
        (here, f"other models and versions of {engine} on {gpu}"),
    ):
        if found:
            newest = sorted(found, key=lambda one: (-one.at, one.ratio))[:RECENT]
            ratios = sorted(one.ratio for one in newest)
            return Learned(
                correction=ratios[ceil(PERCENTILE * len(ratios)) - 1],
                error=median(abs(ratio - 1.0) for ratio in ratios),
                count=len(ratios),
                scope=scope,
            )
    return UNLEARNED
