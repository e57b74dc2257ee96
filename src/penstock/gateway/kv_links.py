"""Which of the blocks that one endpoint holds follow which, so that a hole shows: a block that is held while the one before it is not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain


class Links:
    """Of blocks that hold without holes until `add` or `remove` says otherwise."""

    __slots__ = ("_after", "_before")

    def __init__(self) -> None:
        self._before: dict[int, int] = {}
        self._after: dict[int, int] = {}  # how many follow

    def add(self, before: int, hashes: Sequence[int], fresh: Collection[int]) -> None:
        """Of the chain `hashes` that follows on `before`, those that are `fresh` are held now too."""
        if not fresh:
            return
        new, links, after = set(fresh), self._before, self._after
        for last, key in zip(chain((before,), hashes), hashes, strict=False):
            if key in new:
                links[key] = last
                after[last] = after.get(last, 0) + 1

    def remove(self, hashes: Iterable[int]) -> bool:
        """These are held no more; says whether one that follows on them still is."""
        gone, links, after = [*hashes], self._before, self._after
        for key in gone:
            last = links.pop(key, None)
            if last is not None:
                left = after[last] - 1
                if left:
                    after[last] = left
                else:
                    del after[last]
        return any(key in after for key in gone)
