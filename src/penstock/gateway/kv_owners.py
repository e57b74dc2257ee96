"""Who is taken to hold which block: one number for each block, with one bit for each endpoint.

Holders of one block are few and of one prompt the same from block to block, so numbers are shared and compared by identity first. Blocks
are kept in many small dicts rather than one: one of 10 million would stop the gateway for half a second whenever it grows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from penstock.gateway.kv_held import Held

PARTS = 1024
"""A power of two: a block's part is told by the lowest bits of its hash."""
LOW_BITS = PARTS - 1

MOST_SHARED = 1 << 16
"""Of how many different numbers the one object is remembered."""


MOST_NAMED = 4096
"""For how many sets of endpoints their names are remembered."""


class Owners:
    """An endpoint has a bit, `1 << slot`, as long as it does not lose all at once. A block that nobody holds takes no memory."""

    def __init__(self) -> None:
        self._parts: list[dict[int, int]] = [{} for _ in range(PARTS)]
        self._shared: dict[int, int] = {}
        self._open = self._loose = 0
        self._slots: list[str] = []
        self._free: list[int] = []
        self._closed: deque[tuple[int, Held]] = deque()
        self._names: dict[int, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def open(self, endpoint: str) -> int:
        """A bit of its own, with which nothing is held."""
        if self._free:
            slot = self._free.pop()
            self._slots[slot] = endpoint
        else:
            slot = len(self._slots)
            self._slots.append(endpoint)
        self._open |= 1 << slot
        self._names.clear()
        return 1 << slot

    def close(self, bit: int, held: Held) -> None:
        """Nothing is held with it any more; `held` was, and is cleaned up by `tidy`. Afterwards the bit may be another's."""
        self._open &= ~bit
        self._loose &= ~bit
        self._closed.append((bit, held))

    def loosen(self, bit: int) -> None:
        """Holding a block does not mean holding all before it any more: from now on each is looked at, which takes longer."""
        self._loose |= bit

    def tidy(self, limit: int) -> int:
        """Clean up after at most `limit` blocks of closed bits; returns how many are left."""
        while self._closed and (limit > 0 or not len(self._closed[0][1])):
            bit, held = self._closed[0]
            gone = held.drain(limit)
            self.take(gone, bit)
            limit -= len(gone)
            if not len(held):
                self._closed.popleft()
                self._free.append(bit.bit_length() - 1)
        return sum(len(held) for _, held in self._closed)

    def match(self, hashes: Sequence[int]) -> dict[str, int]:
        """How many of these blocks each endpoint holds from the start; who holds none is left out."""
        held: dict[str, int] = {}
        for bits, blocks in self._leading(hashes):
            held.update(dict.fromkeys(self._names.get(bits) or self._name(bits), blocks))
        return held

    def reach(self, hashes: Sequence[int]) -> int:
        """About how many of these blocks are held by anyone, from the start: a count for statistics, by bisection."""
        parts = self._parts
        return bisect_left(hashes, 1, key=lambda key: key not in parts[key & LOW_BITS])

    def _name(self, bits: int) -> tuple[str, ...]:
        if len(self._names) >= MOST_NAMED:
            self._names.clear()
        text, names, slot = bin(bits)[:1:-1], [], -1
        while (slot := text.find("1", slot + 1)) >= 0:
            names.append(self._slots[slot])
        self._names[bits] = tuple(names)
        return self._names[bits]

    def _leading(self, hashes: Sequence[int]) -> Iterator[tuple[int, int]]:
        """How many blocks from the start are held, by whom: `(bits, blocks)`; who holds none is left out."""
        if not hashes:
            return
        key = hashes[0]
        first = self._parts[key & LOW_BITS].get(key, 0) & self._open
        if tight := first & ~self._loose:
            yield from self._jump(hashes, tight)
        if loose := first & self._loose:
            yield from self._walk(hashes, loose)

    def _jump(self, hashes: Sequence[int], first: int) -> Iterator[tuple[int, int]]:
        """For bits without holes, all of which hold the first block: halve what lies between two blocks that differ in their holders."""
        parts, last = self._parts, len(hashes) - 1
        key = hashes[last]
        whole = parts[key & LOW_BITS].get(key, 0) & first
        between = [(0, first, last, whole)]
        while between:
            low, at_low, high, at_high = between.pop()
            if at_low == at_high:
                continue
            if high - low == 1:
                yield at_low & ~at_high, high
                continue
            middle = (low + high) >> 1
            key = hashes[middle]
            at_middle = parts[key & LOW_BITS].get(key, 0) & at_low
            between.append((low, at_low, middle, at_middle))
            between.append((middle, at_middle, high, at_high))
        if whole:
            yield whole, len(hashes)

    def _walk(self, hashes: Sequence[int], among: int) -> Iterator[tuple[int, int]]:
        """For bits that may have holes: look at each block, up to the last that is held from the start."""
        parts, last = self._parts, -1
        for place, key in enumerate(hashes):
            bits = parts[key & LOW_BITS].get(key, 0)
            if bits is last:
                continue
            last, left = bits, among & bits
            if left != among:
                yield among ^ left, place
                among = left
                if not among:
                    return
        yield among, len(hashes)

    def give(self, hashes: Iterable[int], bit: int) -> None:
        """Endpoint `bit` holds these now."""
        shared, before, after = self._sharing(), -1, bit
        parts = self._parts
        for key in hashes:
            part = parts[key & LOW_BITS]
            bits = part.get(key, 0)
            if bits is not before:
                before, after = bits, bits | bit
                after = shared.setdefault(after, after)
            part[key] = after

    def take(self, hashes: Iterable[int], bit: int) -> None:
        """Endpoint `bit` holds these no more; those that it never held are left as they are."""
        shared, before, after = self._sharing(), -1, 0
        parts = self._parts
        for key in hashes:
            part = parts[key & LOW_BITS]
            bits = part.get(key, 0)
            if bits is not before:
                before, after = bits, bits & ~bit
                after = shared.setdefault(after, after)
            if after:
                part[key] = after
            elif bits:
                del part[key]

    def _sharing(self) -> dict[int, int]:
        if len(self._shared) > MOST_SHARED:
            self._shared.clear()
        return self._shared
