"""Averages over the last seconds, in buckets of one second.

Source: Knative's autoscaler (pkg/autoscaler/aggregation). Times are Unix seconds and are the caller's; several values of one second add
up. Trailing seconds without a value are left out of a linear average, gaps between values count as zeros.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Protocol

BUCKET_S = 1
DECAYED = 0.9999
"""The share of its weight that an exponential average gives to its window."""
LEAST_SMOOTHING = 0.2
_DIGITS = 1e6


class Window(Protocol):
    """What both kinds of average can do."""

    def record(self, at: float, value: float) -> None:
        """Add a value to the second that `at` is in; one that is older than the window is ignored."""
        ...

    def quiet(self, since: float, now: float) -> None:
        """As if zeros had been recorded all the time."""
        ...

    def average(self, now: float) -> float:
        """Over the window that ends now; 0 without values in it."""
        ...

    def is_empty(self, now: float) -> bool:
        """Whether nothing was recorded for longer than the window."""
        ...

    def resize(self, window_s: float, now: float) -> None:
        """Another length from now on; the newest values are kept."""
        ...


class LinearWindow:
    """Every second counts the same."""

    def __init__(self, window_s: float) -> None:
        """Empty; `window_s` is rounded up to whole seconds, at least one."""
        self._count = max(1, ceil(window_s / BUCKET_S))
        self._buckets = [0.0] * self._count
        self._first: int | None = None
        self._last: int | None = None
        self._total = 0.0

    def record(self, at: float, value: float) -> None:
        """Add a value to the second that `at` is in; one that is older than the window is ignored."""
        bucket, count, last = floor(at), self._count, self._last
        if last is None:
            self._first = self._last = bucket
        elif bucket != last:
            if bucket <= last - count:
                return
            self._first = bucket if self._first is None else min(self._first, bucket)
            if bucket > last:
                self._advance(last, bucket)
        self._buckets[bucket % count] += value
        self._total += value

    def quiet(self, since: float, now: float) -> None:
        """As if zeros had been recorded all the time: the gap between two counts as such."""
        self.record(max(since, now - (self._count - 1) * BUCKET_S), 0.0)
        self.record(now, 0.0)

    def _advance(self, last: int, bucket: int) -> None:
        count, buckets = self._count, self._buckets
        if bucket - last >= count:
            self._first, self._total = bucket, 0.0
            buckets[:] = [0.0] * count
        else:
            for skipped in range(last + 1, bucket + 1):
                index = skipped % count
                self._total -= buckets[index]
                buckets[index] = 0.0
        self._last = bucket

    def average(self, now: float) -> float:
        """Over the seconds with values, and those between them, of the window that ends now."""
        if self._first is None or self._last is None:
            return 0.0
        written = self._last - self._first + 1
        silent = floor(now) - self._last
        if silent <= 0:
            return _rounded(self._total / min(written, self._count))
        if silent >= self._count:
            return 0.0
        left = self._total
        for fallen in range(self._last + 1, self._last + silent + 1):
            left -= self._buckets[fallen % self._count]
        return _rounded(left / min(written, self._count - silent))

    def is_empty(self, now: float) -> bool:
        """Whether nothing was recorded for longer than the window."""
        return self._last is None or floor(now) - self._last > self._count

    def resize(self, window_s: float, now: float) -> None:
        """Another length from now on; the newest values are kept, unless they are older than the window by now."""
        old, buckets = self._count, self._buckets
        count = max(1, ceil(window_s / BUCKET_S))
        if count == old:
            return
        self._count, self._buckets, self._total = count, [0.0] * count, 0.0
        if self._last is None or floor(now) - self._last > old:
            self._first = None
            return
        self._first = self._last - (old - 1)
        for kept in range(self._last - min(old, count) + 1, self._last + 1):
            self._buckets[kept % count] = buckets[kept % old]
            self._total += buckets[kept % old]


class ExponentialWindow(LinearWindow):
    """Newer seconds count more; a window that is not full yet is not made up for, and nothing is rounded."""

    def average(self, now: float) -> float:
        """The weight of a second k seconds ago is m(1 - m)^k, where m depends on the window's length alone."""
        if self._last is None:
            return 0.0
        silent = max(0, floor(now) - self._last)
        weight = smoothing(self._count)
        fading = 1.0 - weight
        weight *= fading**silent
        result = 0.0
        for age in range(self._count - silent):
            result += self._buckets[(self._last - age) % self._count] * weight
            weight *= fading
        return result


def smoothing(buckets: int) -> float:
    """The weight of the newest of so many buckets."""
    return float(max(1.0 - (1.0 - DECAYED) ** (1.0 / buckets), LEAST_SMOOTHING))


def _rounded(value: float) -> float:
    """To six digits, halves away from zero as Go rounds; sums of floats otherwise leave dust that is taken for demand."""
    return floor(abs(value) * _DIGITS + 0.5) / _DIGITS * (1 if value >= 0 else -1)
