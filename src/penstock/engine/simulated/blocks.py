"""A paged KV cache that finds prefixes, as vLLM's block pool does it.

Blocks are known by the hash of all tokens up to their end; a block without one (not full, or of an answer nobody knows) counts only as
room. What no request uses stays cached until its room is needed, and goes in the order in which it became idle: an ended request gives
its blocks back tail first, so that the heads of prompts live longest. So who holds a block of a chain holds all before it: along a chain come
blocks in use, by ever fewer requests, then idle ones, then such as are not cached. Two requests that hold the same block share it, where vLLM keeps
the second copy if both were computed side by side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence


class BlockPool:
    """`blocks` of room. Hashes are 0 or more; idle blocks without one stand under negative numbers.

    With `records`, `removed` collects the hashes of evicted blocks until somebody takes them away.
    """

    __slots__ = ("_anonymous", "_blank", "_idle", "_uses", "blocks", "records", "removed")

    def __init__(self, blocks: int, *, records: bool = False) -> None:
        self.blocks = blocks
        self.records = records
        self.removed: list[int] = []
        self._blank = blocks
        self._uses: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._anonymous = 0

    @property
    def free(self) -> int:
        """Blocks that can be had, cached ones among them."""
        return self._blank + len(self._idle)

    @property
    def used(self) -> int:
        """Blocks that requests hold."""
        return self.blocks - self.free

    @property
    def cached(self) -> frozenset[int]:
        """Hashes of all blocks that a prompt can find."""
        return frozenset(number for number in (*self._uses, *self._idle) if number >= 0)

    def __contains__(self, number: int) -> bool:
        return number in self._uses or number in self._idle

    def leading(self, hashes: Sequence[int]) -> int:
        """How many leading blocks are cached."""
        uses, idle = self._uses, self._idle
        for place, number in enumerate(hashes):
            if number not in uses and number not in idle:
                return place
        return len(hashes)

    def match(self, hashes: Sequence[int]) -> tuple[int, int]:
        """How many leading blocks are cached, and how many of these are idle."""
        uses, idle = self._uses, self._idle
        found = of_idle = 0
        for number in hashes:
            if number in idle:
                of_idle += 1
            elif number not in uses:
                break
            found += 1
        return found, of_idle

    def hold(self, hashes: Sequence[int], known: int, of_idle: int) -> None:
        """Uses blocks: as `match` found them, or to be computed. There must be room for these."""
        uses, idle, in_use = self._uses, self._idle, known - of_idle
        for number in hashes[:in_use]:
            uses[number] += 1
        for number in hashes[in_use:known]:
            del idle[number]
        uses.update(dict.fromkeys(hashes[in_use:], 1))
        self._take(len(hashes) - known)

    def grow(self, count: int = 1) -> None:
        """Uses `count` blocks without a hash, which must be free."""
        if self._blank >= count:
            self._blank -= count
        else:
            self._take(count)

    def name(self, hashes: Sequence[int]) -> None:
        """As many blocks in use without a hash are full now, and known by these; what is known already is room again."""
        uses, idle = self._uses, self._idle
        for number in hashes:
            if number in uses:
                uses[number] += 1
                self._blank += 1
            elif number in idle:
                del idle[number]
                uses[number] = 1
                self._blank += 1
            else:
                uses[number] = 1

    def release(self, hashes: Sequence[int], nameless: int) -> None:
        """Gives a request's blocks back, tail first: those without a hash are its last."""
        uses, idle, last = self._uses, self._idle, self._anonymous
        self._anonymous = last - nameless
        for number in range(last - 1, last - nameless - 1, -1):
            idle[number] = None
        alone = bisect_left(hashes, -1, key=lambda number: -uses[number])
        for number in hashes[:alone]:
            uses[number] -= 1
        for number in reversed(hashes[alone:]):
            del uses[number]
            idle[number] = None

    def drop(self, hashes: Sequence[int]) -> None:
        """Blocks in use that were never computed are given back as room."""
        uses = self._uses
        for number in reversed(hashes):
            left = uses[number] - 1
            if left:
                uses[number] = left
            else:
                del uses[number]
                self._blank += 1

    def forget(self) -> None:
        """Idle blocks are no longer found. They are not told of as removed."""
        self._blank += len(self._idle)
        self._idle.clear()

    def _take(self, count: int) -> None:
        blank = min(count, self._blank)
        self._blank -= blank
        if not self.records:
            for _ in range(count - blank):
                self._idle.popitem(last=False)
            return
        gone = [self._idle.popitem(last=False)[0] for _ in range(count - blank)]
        self.removed += [number for number in gone if number >= 0]
