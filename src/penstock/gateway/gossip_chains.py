"""Which chains of blocks all gateways know of already, so that of one that begins alike only the rest is told.

A chain is known by the hash of its last block, which stands for all before it. Every MARK_BLOCKS of it are marked, by which
another chain finds it that has as many in common with it; what several have in common stands for the first of them, which all are the
most likely to have heard. Gateways that heard the same know the same; where one did not, it says what
it misses, and whatever begins alike is told anew when it is next used.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import islice

MARK_BLOCKS = 8
MAX_BLOCKS = 1 << 19
"""In all chains: 4 MiB, and about 100 bytes for each mark."""


class Chains:
    """Those used last, of at most `max_blocks` in all."""

    def __init__(self, max_blocks: int = MAX_BLOCKS) -> None:
        """None is known."""
        self._max_blocks = max_blocks
        self._chains: dict[int, array[int]] = {}
        self._marks: dict[int, int] = {}
        self.blocks = 0

    def __len__(self) -> int:
        """How many are known."""
        return len(self._chains)

    def common(self, hashes: Sequence[int]) -> tuple[int, int]:
        """The known chain that has most in common with this one, by its last block, and how many blocks from the start; (0, 0) for none."""
        marks = self._marks
        for position in range(len(hashes) - len(hashes) % MARK_BLOCKS, 0, -MARK_BLOCKS):
            anchor = marks.get(hashes[position - 1])
            if anchor is not None:
                self._chains[anchor] = self._chains.pop(anchor)
                return anchor, self._extended(anchor, hashes, position)
        return 0, 0

    def _extended(self, anchor: int, hashes: Sequence[int], position: int) -> int:
        """How many blocks are alike, of which the first `position` are."""
        chain = self._chains[anchor][position : position + MARK_BLOCKS]
        for known, asked in zip(chain, islice(hashes, position, None), strict=False):
            if known != asked:
                break
            position += 1
        return position

    def add(self, chain: array[int]) -> None:
        """It was told. What it begins like keeps its marks. One without a mark would never be found again, and one that is too long is left out."""
        if not MARK_BLOCKS <= len(chain) <= self._max_blocks:
            return
        last = chain[-1]
        self.forget(last)
        self._chains[last] = chain
        marks = self._marks
        for key in chain[MARK_BLOCKS - 1 :: MARK_BLOCKS]:
            marks.setdefault(key, last)
        self.blocks += len(chain)
        while self.blocks > self._max_blocks:
            self.forget(next(iter(self._chains)))

    def get(self, last: int) -> array[int] | None:
        """The known chain that ends with this block."""
        return self._chains.get(last)

    def joined(self, anchor: int, position: int, tail: array[int]) -> array[int] | None:
        """The chain that another gateway means. None where its beginning is not known here."""
        if not position:
            return tail
        chain = self._chains.get(anchor)
        if chain is None or position > len(chain):
            return None
        self._chains[anchor] = self._chains.pop(anchor)
        return chain[:position] + tail

    def forget(self, last: int) -> None:
        """The chain that ends with this block is not known any more."""
        chain = self._chains.pop(last, None)
        if chain is None:
            return
        self.blocks -= len(chain)
        marks = self._marks
        for key in chain[MARK_BLOCKS - 1 :: MARK_BLOCKS]:
            if marks.get(key) == last:
                del marks[key]

    def unmark(self, last: int) -> None:
        """Somebody does not know the chain that ends with this block: all that shares any of it is to be told anew."""
        chain = self._chains.get(last)
        for key in chain[MARK_BLOCKS - 1 :: MARK_BLOCKS] if chain is not None else ():
            self._marks.pop(key, None)

    def unmark_all(self) -> None:
        """The same for somebody who knows none. What others tell can still be followed."""
        self._marks.clear()
