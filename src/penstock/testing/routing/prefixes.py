"""Which replica is taken to hold which blocks: what baselines know, each fed and bounded by its own rules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from penstock.testing.routing.holders import Holders


class Prefixes:
    """For each replica at most `capacity` blocks (0: no bound), the least recently used given up first."""

    def __init__(self, replicas: int, capacity: int = 0) -> None:
        self.capacity = capacity
        self._held: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(replicas)]
        self._holders = Holders()

    def sizes(self) -> list[int]:
        """How many blocks each replica is taken to hold."""
        return [*map(len, self._held)]

    def leading(self, hashes: Sequence[int]) -> dict[int, int]:
        """How many blocks from the start each replica holds; those that hold none are left out."""
        return self._holders.leading(hashes)

    def use(self, replica: int, hashes: Sequence[int], *, tail_first: bool = True) -> None:
        """It holds these from now on. Used `tail_first`, the heads of prompts, which others share, live longest."""
        held, fresh = self._held[replica], list[int]()
        for key in reversed(hashes) if tail_first else hashes:
            if key in held:
                held.move_to_end(key)
            else:
                held[key] = None
                fresh.append(key)
        self._holders.give(replica, fresh)
        if self.capacity:
            self.trim(replica, self.capacity)

    def trim(self, replica: int, capacity: int) -> None:
        """It holds no more than that."""
        held = self._held[replica]
        if len(held) > capacity:
            self._holders.take(replica, [held.popitem(last=False)[0] for _ in range(len(held) - capacity)])

    def drop(self, replica: int, hashes: Iterable[int]) -> None:
        """It holds these no more."""
        held = self._held[replica]
        gone = [key for key in hashes if key in held]
        for key in gone:
            del held[key]
        self._holders.take(replica, gone)

    def clear(self, replica: int) -> None:
        """It holds nothing any more."""
        self.trim(replica, 0)
