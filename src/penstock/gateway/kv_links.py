"""Which of the blocks that one endpoint holds follow which, so that a hole shows: a block that is held while the one before it is not.

Almost every block is followed by one other. So what is kept is the one before each, and by how many a block is followed only where that is
none or several.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain

from penstock.gateway.kv_held import LOW_BITS, PARTS


class Links:
    """Of blocks that hold without holes until `add` or `remove` says otherwise."""

    __slots__ = ("_before", "_followers")

    def __init__(self) -> None:
        self._before: list[dict[int, int]] = [{} for _ in range(PARTS)]
        self._followers: list[dict[int, int]] = [{} for _ in range(PARTS)]

    @property
    def parts(self) -> list[dict[int, int]]:
        """All that is kept, in parts, for it takes long to be freed at once."""
        return [*self._before, *self._followers]

    def add(self, before: int, hashes: Sequence[int], fresh: Collection[int]) -> None:
        """Of the chain `hashes` that follows on `before`, those that are `fresh` are held now too."""
        if not fresh:
            return
        new, links, followers = set(fresh), self._before, self._followers
        for last, key in zip(chain((before,), hashes), hashes, strict=False):
            if key not in new:
                continue
            links[key & LOW_BITS][key] = last
            followers[key & LOW_BITS][key] = 0
            count = followers[last & LOW_BITS].pop(last, None)
            if count is None:
                if last in links[last & LOW_BITS]:
                    followers[last & LOW_BITS][last] = 2
            elif count:
                followers[last & LOW_BITS][last] = count + 1

    def remove(self, hashes: Iterable[int]) -> bool:
        """These are held no more; says whether one that follows on them still is."""
        links, followers, gone = self._before, self._followers, []
        for key in hashes:
            last = links[key & LOW_BITS].get(key)
            if last is None:
                continue
            gone.append(key)
            count = followers[last & LOW_BITS].pop(last, 1) - 1
            if count != 1 and last in links[last & LOW_BITS]:
                followers[last & LOW_BITS][last] = count
        has_hole = False
        for key in gone:
            del links[key & LOW_BITS][key]
            has_hole |= followers[key & LOW_BITS].pop(key, 1) > 0
        return has_hole
