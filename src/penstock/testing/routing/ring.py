"""A consistent hash ring, as several routers have one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from penstock.kit.hashing import draw

POINTS = 64


class Ring:
    """Each replica stands at `POINTS` places."""

    def __init__(self, replicas: int) -> None:
        placed = sorted((draw(f"{place}/{n}"), place) for place in range(replicas) for n in range(POINTS))
        self._points = [point for point, _ in placed]
        self._places = [place for _, place in placed]

    def walk(self, key: int) -> Iterator[int]:
        """Replicas clockwise from `key`, each at least once."""
        start = bisect_left(self._points, key)
        yield from self._places[start:]
        yield from self._places[:start]
