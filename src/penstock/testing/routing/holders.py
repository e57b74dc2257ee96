"""Which replicas hold which blocks: one number for each block, with one bit for each replica."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MOST_NAMED = 4096
"""For how many sets of replicas their numbers are remembered."""


class Holders:
    """Sets of replicas are shared from block to block, and so compared by identity first. A block that nobody holds takes no memory."""

    __slots__ = ("_bits", "_named")

    def __init__(self) -> None:
        self._bits: dict[int, int] = {}
        self._named: dict[int, tuple[int, ...]] = {}

    def give(self, replica: int, hashes: Iterable[int]) -> None:
        """It holds these now."""
        held, bit = self._bits, 1 << replica
        before, after = 0, bit
        for key in hashes:
            bits = held.get(key, 0)
            if bits is not before:
                before, after = bits, bits | bit
            held[key] = after

    def take(self, replica: int, hashes: Iterable[int]) -> None:
        """It held these, and does no more."""
        held, bit = self._bits, 1 << replica
        before, after = bit, 0
        for key in hashes:
            bits = held[key]
            if bits is not before:
                before, after = bits, bits & ~bit
            if after:
                held[key] = after
            else:
                del held[key]

    def leading(self, hashes: Sequence[int]) -> dict[int, int]:
        """How many of these blocks from the start each replica holds; those that hold none are left out."""
        found: dict[int, int] = {}
        held_by = self._bits.get
        among = last = held_by(hashes[0], 0) if hashes else 0
        if not among:
            return found
        for blocks, key in enumerate(hashes):
            bits = held_by(key, 0)
            if bits is last:
                continue
            last, left = bits, among & bits
            if left != among:
                found.update(dict.fromkeys(self._replicas(among ^ left), blocks))
                among = left
                if not among:
                    return found
        found.update(dict.fromkeys(self._replicas(among), len(hashes)))
        return found

    def _replicas(self, bits: int) -> tuple[int, ...]:
        known = self._named.get(bits)
        if known is None:
            if len(self._named) >= MOST_NAMED:
                self._named.clear()
            text, places, place = bin(bits)[:1:-1], list[int](), -1
            while (place := text.find("1", place + 1)) >= 0:
                places.append(place)
            known = self._named[bits] = tuple(places)
        return known
