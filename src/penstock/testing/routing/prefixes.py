"""Which replica is taken to hold which blocks: what baselines know, each fed and bounded by its own rules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence


class Prefixes:
    """For each replica at most `capacity` blocks (0: no bound), the least recently used given up first."""

    def __init__(self, replicas: int, capacity: int = 0) -> None:
        self.capacity = capacity
        self._held: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(replicas)]
        self._owners: dict[int, int] = {}

    def size(self, replica: int) -> int:
        """Blocks that it is taken to hold."""
        return len(self._held[replica])

    def leading(self, hashes: Sequence[int]) -> dict[int, int]:
        """How many blocks from the start each replica holds; those that hold none are left out."""
        if not hashes:
            return {}
        owners = self._owners
        found: dict[int, int] = {}
        among = owners.get(hashes[0], 0)
        for place, key in enumerate(hashes):
            if not among:
                return found
            left = among & owners.get(key, 0)
            if left != among:
                found.update(dict.fromkeys(_places(among ^ left), place))
                among = left
        found.update(dict.fromkeys(_places(among), len(hashes)))
        return found

    def use(self, replica: int, hashes: Sequence[int], *, tail_first: bool = True) -> None:
        """It holds these from now on. Used `tail_first`, the heads of prompts, which others share, live longest."""
        held, owners, bit = self._held[replica], self._owners, 1 << replica
        for key in reversed(hashes) if tail_first else hashes:
            if key in held:
                held.move_to_end(key)
            else:
                held[key] = None
                owners[key] = owners.get(key, 0) | bit
        if self.capacity:
            self.trim(replica, self.capacity)

    def trim(self, replica: int, capacity: int) -> None:
        """It holds no more than that."""
        held = self._held[replica]
        while len(held) > capacity:
            self._disown(held.popitem(last=False)[0], 1 << replica)

    def drop(self, replica: int, hashes: Iterable[int]) -> None:
        """It holds these no more."""
        held = self._held[replica]
        for key in hashes:
            if key in held:
                del held[key]
                self._disown(key, 1 << replica)

    def clear(self, replica: int) -> None:
        """It holds nothing any more."""
        self.trim(replica, 0)

    def _disown(self, key: int, bit: int) -> None:
        left = self._owners[key] & ~bit
        if left:
            self._owners[key] = left
        else:
            del self._owners[key]


def _places(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
