"""Is the canary worse than the stable revision?

A test that may be looked at after every request, for ever, and still raises a false alarm with at most the stated probability.

Each request either exceeds what is wished (it failed, it was slow, its output drifted) or does not; the canary does so with
probability b, the stable revision with probability a. The hypothesis that nothing is wrong is b <= ratio * a + margin. Evidence
against it is an e-value: a product of likelihood ratios whose mean is at most 1 under that hypothesis, so that it ever reaches
1 / alpha with probability at most alpha (Ville's inequality). The ratios are those of Turner, Ly and Grünwald, "Generic E-variables
for exact sequential k-sample tests" (2021), for the hypothesis's boundary point that is nearest to what was seen before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

CLOSEST = 1e-6
"""Estimates keep this far from 0 and 1."""
STEPS = 40
"""Halvings in the search of the boundary point: to 1e-12 of the interval."""
MIN_BLOCK = 5
"""Requests of each revision that are looked at together at least; which requests those are hangs on counts alone."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of `total` requests, `exceeded` were not as wished; one of many parts may do so by a fraction."""

    exceeded: float = 0
    total: int = 0

    @property
    def rate(self) -> float:
        """The share that exceeded; 0 of none."""
        return self.exceeded / self.total if self.total else 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.exceeded + other.exceeded, self.total + other.total)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The canary is all right while its rate is at most `ratio` times the stable one's, plus `margin`.

    A `ratio` of 0 compares with `margin` alone, whatever the stable revision does.
    """

    ratio: float = 1.0
    margin: float = 0.0


def grown(
    log_e: float,
    seen: tuple[Counts, Counts],
    block: tuple[Counts, Counts],
    bounds: Bounds,
) -> float:
    """The natural logarithm of the evidence after one more block; `seen` is what came before it. Each pair is (stable, canary).

    Proof that the block's factor E has a mean of at most 1 where b <= ratio * a + margin. Let (a', b') be the point on the boundary and
    s = (a* - a') / (a' (1 - a')), t = (b* - b') / (b' (1 - b')) for estimates (a*, b*) beyond it. The mean of a stable request's factor
    is 1 + s (a - a'), of a canary's 1 + t (b - b'), so E's is at most exp(n s (a - a') + m t (b - b')), and with t >= 0 at most
    exp((a - a') (n s + m t ratio)). The boundary point is chosen where that last bracket is 0. Fractions do no harm: x^y z^(1-y)
    is at most y x + (1 - y) z.
    """
    stable, canary = block
    a, b = (_estimate(counts) for counts in seen)
    if b <= bounds.ratio * a + bounds.margin or not canary.total or (bounds.ratio and not stable.total):
        return log_e
    at = _boundary(a, b, stable.total, canary.total, bounds) if bounds.ratio else a
    limit = bounds.ratio * at + bounds.margin
    return log_e + _log_ratio(stable, a, at) + _log_ratio(canary, b, limit)


def is_enough(block: tuple[Counts, Counts], bounds: Bounds) -> bool:
    """Whether a block can be looked at: both revisions answered, where both matter."""
    stable, canary = block
    return canary.total >= MIN_BLOCK and (not bounds.ratio or stable.total >= MIN_BLOCK)


def alarm_at(false_alarm_rate: float, gates: int) -> float:
    """The logarithm of the evidence at which a gate of `gates` closes: all of them together raise that few false alarms."""
    return math.log(gates / false_alarm_rate)


def exceeding(counts: Sequence[int], bucket: int) -> Counts:
    """Of latencies counted by bucket, those beyond the upper bound of `bucket`."""
    return Counts(sum(counts[bucket + 1 :]), sum(counts))


def by_request(counts: Counts, requests: int) -> Counts:
    """Counts of parts (the gaps of a stream) as those of requests: parts of one request say little more than one of them does."""
    return Counts(counts.rate * requests, requests) if counts.total > requests else counts


def slow_buckets(
    stable: Sequence[int], bounds_s: Sequence[float], quantile: float, ratio: float
) -> tuple[int, int] | None:
    """Beyond which buckets a stable and a canary request count as slow, None while the stable revision is hardly known.

    Canary requests are slow beyond `ratio` times the stable one's quantile, stable ones beyond that over `ratio`: a canary whose times
    are at most `ratio` times the stable one's exceeds no more often. Buckets round in the canary's favour.
    """
    total = sum(stable)
    if total * (1 - quantile) < 1 - 1e-9:
        return None
    below = accumulate(stable)
    typical = next(bucket for bucket, count in enumerate(below) if count >= quantile * total)
    slow_s = ratio * bounds_s[min(typical, len(bounds_s) - 1)]
    canary = slow_bucket(bounds_s, slow_s)
    own = max(
        (i for i, bound_s in enumerate(bounds_s) if bound_s * ratio <= bounds_s[canary] * (1 + 1e-9)),
        default=0,
    )
    return own, canary


def slow_bucket(bounds_s: Sequence[float], limit_s: float) -> int:
    """The first bucket whose upper bound is at least `limit_s`, the last one if none is."""
    return next(
        (i for i, bound_s in enumerate(bounds_s) if bound_s >= limit_s * (1 - 1e-9)), len(bounds_s) - 1
    )


def _estimate(counts: Counts) -> float:
    """Krichevsky and Trofimov's: half a request of each kind is taken for seen."""
    return min(max((counts.exceeded + 0.5) / (counts.total + 1), CLOSEST), 1 - CLOSEST)


def _boundary(a: float, b: float, stable: int, canary: int, bounds: Bounds) -> float:
    """The stable revision's rate at the boundary point: where n s + m t ratio is 0, between `a` and the point below `b`."""
    low, high = a, (b - bounds.margin) / bounds.ratio
    high = min(high, 1 - CLOSEST)
    for _ in range(STEPS):
        at = (low + high) / 2
        limit = bounds.ratio * at + bounds.margin
        pull = stable * (a - at) / (at * (1 - at))
        push = canary * bounds.ratio * (b - limit) / (limit * (1 - limit))
        if pull + push > 0:
            low = at
        else:
            high = at
    return low


def _log_ratio(counts: Counts, alternative: float, null: float) -> float:
    exceeded = counts.exceeded * math.log(alternative / null)
    return exceeded + (counts.total - counts.exceeded) * math.log((1 - alternative) / (1 - null))
