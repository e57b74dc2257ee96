"""Who is taken to hold which block: one number for each block, with one bit for each endpoint.

Holders of one block are few and of one prompt the same from block to block, so numbers are shared and compared by identity first. Blocks
are kept in many small dicts rather than one: one of 10 million would stop the gateway for half a second whenever it grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

SHARDS = 256
"""A power of two: a block's shard is the lowest bits of its hash."""

MOST_SHARED = 1 << 16
"""Of how many different numbers the one object is remembered."""


class Owners:
    """Bits are those of `1 << slot`. A block that nobody holds takes no memory."""

    def __init__(self) -> None:
        self._shards: list[dict[int, int]] = [{} for _ in range(SHARDS)]
        self._shared: dict[int, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def leading(self, hashes: Sequence[int], among: int) -> Iterator[tuple[int, int]]:
        """How many blocks from the start are held, by whom: `(bits, blocks)`, fewest first; who holds none is left out.

        Every block up to the last that anybody holds is looked at. Jumping ahead would be sound only where holding a block means
        holding all before it, and an engine that tells what it removes may remove any.
        """
        shards, last = self._shards, 0
        for place, key in enumerate(hashes):
            mask = shards[key & SHARDS - 1].get(key, 0)
            if mask is last and place:
                continue
            last, left = mask, among & mask
            if left != among:
                if place:
                    yield among ^ left, place
                among = left
                if not among:
                    return
        if among and hashes:
            yield among, len(hashes)

    def give(self, hashes: Iterable[int], bit: int) -> None:
        """Endpoint `bit` holds these now."""
        shards, shared, before, after = self._shards, self._shared, -1, bit
        if len(shared) > MOST_SHARED:
            shared.clear()
        for key in hashes:
            shard = shards[key & SHARDS - 1]
            mask = shard.get(key, 0)
            if mask is not before:
                before, after = mask, mask | bit
                after = shared.setdefault(after, after)
            shard[key] = after

    def take(self, hashes: Iterable[int], bit: int) -> None:
        """Endpoint `bit` holds these no more; those that it never held are left as they are."""
        shards, shared, before, after = self._shards, self._shared, -1, 0
        if len(shared) > MOST_SHARED:
            shared.clear()
        for key in hashes:
            shard = shards[key & SHARDS - 1]
            mask = shard.get(key, 0)
            if mask is not before:
                before, after = mask, mask & ~bit
                after = shared.setdefault(after, after)
            if after:
                shard[key] = after
            elif mask:
                del shard[key]
