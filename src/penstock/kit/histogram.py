"""A histogram that forgets: a sample counts half after each half-life, in buckets that grow with the value.

Values never change: adding a sample gives a new histogram. Source: the histograms of kubernetes/autoscaler's vertical pod
autoscaler (forward decay: newer samples weigh more, instead of older ones being made lighter again and again).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

MAX_EXPONENT = 100
"""After so many half-lives all weights are brought back to the order of 1, so that they stay within a float."""
EPSILON = 1e-4
"""A lighter bucket counts as empty."""
COMPACT_WEIGHT = 10_000


@dataclass(frozen=True, slots=True)
class Buckets:
    """The first bucket holds [0, `first`), each next one is `1 + growth` times as wide, the last begins at `most` or above."""

    first: float
    growth: float
    most: float

    @property
    def count(self) -> int:
        """How many there are."""
        return math.ceil(self._number(self.most)) + 1

    def find(self, value: float) -> int:
        """The number of the bucket that holds `value`, from 0."""
        if value < self.first:
            return 0
        return min(int(self._number(value)), self.count - 1)

    def start(self, bucket: int) -> float:
        """The least value of a bucket."""
        return self.first * ((1 + self.growth) ** bucket - 1) / self.growth

    def end(self, bucket: int) -> float:
        """The value that a bucket stands for: its upper end; the last, which has none, stands for its start."""
        return self.start(min(bucket + 1, self.count - 1))

    def _number(self, value: float) -> float:
        return math.log(value * self.growth / self.first + 1, 1 + self.growth)


@dataclass(frozen=True, slots=True)
class CompactHistogram:
    """To be written down: whole weights of at most COMPACT_WEIGHT, which `total` scales. Times in seconds since the epoch."""

    weights: Mapping[int, int]
    total: float
    reference_s: float


@dataclass(frozen=True, slots=True)
class DecayingHistogram:
    """Weights by bucket, as of `reference_s`: a sample one half-life later than that counts twice."""

    buckets: Buckets
    half_life_s: float
    weights: Mapping[int, float] = field(default_factory=dict)
    reference_s: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing of weight was ever added, or all of it is forgotten."""
        return not any(weight >= EPSILON for weight in self.weights.values())

    def add(self, value: float, weight: float, at_s: float) -> DecayingHistogram:
        """With one more sample. `value` is finite and not negative."""
        base = self._shifted(at_s)
        return base._changed(value, weight * base._factor(at_s))

    def subtract(self, value: float, weight: float, at_s: float) -> DecayingHistogram:
        """Without a sample that was added with these numbers."""
        base = self._shifted(at_s)
        return base._changed(value, -weight * base._factor(at_s))

    def percentile(self, share: float) -> float:
        """The end of the first bucket up to which there is at least `share` (0 to 1) of all weight; 0 if there is none."""
        filled = [bucket for bucket, weight in self.weights.items() if weight >= EPSILON]
        if not filled:
            return 0.0
        wanted, seen = share * sum(self.weights.values()), 0.0
        for bucket in range(min(filled), max(filled)):
            seen += self.weights.get(bucket, 0.0)
            if seen >= wanted:
                return self.buckets.end(bucket)
        return self.buckets.end(max(filled))

    def compact(self) -> CompactHistogram:
        """Rounded to whole parts of the heaviest bucket."""
        heaviest = max(self.weights.values(), default=0.0)
        rounded = {b: round(w * COMPACT_WEIGHT / heaviest) for b, w in self.weights.items() if w >= EPSILON}
        weights = {bucket: weight for bucket, weight in sorted(rounded.items()) if weight}
        return CompactHistogram(weights, sum(self.weights.values()) if weights else 0.0, self.reference_s)

    def restored(self, written: CompactHistogram) -> DecayingHistogram:
        """This histogram with what `compact` wrote. ValueError if that cannot be: weights or buckets out of range."""
        whole = sum(written.weights.values())
        sane = math.isfinite(written.total) and math.isfinite(written.reference_s) and written.total >= 0
        known = all(0 <= bucket < self.buckets.count for bucket in written.weights)
        if not sane or not known or any(weight < 0 for weight in written.weights.values()):
            raise ValueError("weights, buckets or their total are out of range")
        if not whole:
            return replace(self, weights={}, reference_s=0.0)
        weights = {bucket: weight * written.total / whole for bucket, weight in written.weights.items()}
        return replace(self, weights=weights, reference_s=written.reference_s)

    def _changed(self, value: float, weight: float) -> DecayingHistogram:
        bucket = self.buckets.find(value)
        after = max(0.0, self.weights.get(bucket, 0.0) + weight)
        return replace(self, weights={**self.weights, bucket: after})

    def _factor(self, at_s: float) -> float:
        return float(2.0 ** ((at_s - self.reference_s) / self.half_life_s))

    def _shifted(self, at_s: float) -> DecayingHistogram:
        """With a reference so near that the sample's weight is no astronomic number."""
        if at_s <= self.reference_s + MAX_EXPONENT * self.half_life_s:
            return self
        reference_s = round(at_s / self.half_life_s) * self.half_life_s
        scale = 2.0 ** round((self.reference_s - reference_s) / self.half_life_s)
        weights = {bucket: weight * scale for bucket, weight in self.weights.items()}
        return replace(
            self, weights={b: w for b, w in weights.items() if w >= EPSILON}, reference_s=reference_s
        )
