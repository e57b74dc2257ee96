"""What caches have been worth of late: which prefixes are asked for most, and what one cache's hits come to."""

from __future__ import annotations

from math import exp

from msgspec import Struct

MEMORY_S = 300.0
"""After as long, what was counted counts for 1/e: a rate is what it would be if arrivals kept on as of late."""

KEPT_PREFIXES = 256
"""How many prefixes are told apart; twice as many between two clearings."""


class Rate:
    """Events per second, fading: in steady state it is their true rate."""

    __slots__ = ("_at", "_sum")

    def __init__(self) -> None:
        self._sum = self._at = 0.0

    def add(self, amount: float, now: float) -> None:
        """`amount` events happened at `now`, in seconds."""
        self._sum = self._faded(now) + amount
        self._at = max(now, self._at)

    def per_s(self, now: float) -> float:
        """As seen at `now`."""
        return self._faded(now) / MEMORY_S

    def _faded(self, now: float) -> float:
        return self._sum * exp(-max(now - self._at, 0.0) / MEMORY_S)


class HotPrefix(Struct, frozen=True, gc=False):
    """A beginning of `blocks` blocks that ends in the block `hash`, used `rate` times a second; at least `sure_rate` for sure."""

    hash: int
    blocks: int
    rate: float
    sure_rate: float


class _Count(Struct, gc=False):
    blocks: int
    rate: Rate
    error: float


class HotPrefixes:
    """The most used prefixes among many: Space-Saving (Metwally et al., 2005), with counts that fade, cleared in batches.

    A prefix that was dropped and comes back begins with the most that any dropped one had; that is its error, and no prefix that is used
    more than the error is ever missing.
    """

    def __init__(self) -> None:
        self._counts: dict[int, _Count] = {}
        self._dropped = Rate()

    def used(self, key: int, blocks: int, now: float) -> None:
        """A request began with these `blocks` blocks, the last of which is `key`."""
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= 2 * KEPT_PREFIXES:
                self._clear(now)
            error = self._dropped.per_s(now)
            count = self._counts[key] = _Count(blocks, Rate(), error)
            count.rate.add(error * MEMORY_S, now)
        count.rate.add(1.0, now)

    def hottest(self, count: int, now: float) -> tuple[HotPrefix, ...]:
        """At most `count`, the most used first, equals by hash."""
        rated = [
            HotPrefix(key, one.blocks, rate, max(rate - one.error, 0.0))
            for key, one in self._counts.items()
            for rate in (one.rate.per_s(now),)
        ]
        return tuple(sorted(rated, key=lambda one: (-one.rate, one.hash))[:count])

    def _clear(self, now: float) -> None:
        ranked = sorted(self._counts, key=lambda key: self._counts[key].rate.per_s(now), reverse=True)
        most = self._counts[ranked[KEPT_PREFIXES]].rate.per_s(now)
        for key in ranked[KEPT_PREFIXES:]:
            del self._counts[key]
        self._dropped = Rate()
        self._dropped.add(most * MEMORY_S, now)
