"""vLLM's router, kv_aware (precise): the longest match by engines' KV events, whatever its load; without any, the fewest requests under way.

What was sent counts as held for 2 s (`policies/kv_aware.rs`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.prefixes import Prefixes

GUESS_S = 2.0


class KvAware(Policy):
    """See the module."""

    hears_events = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._told, self._guessed = Prefixes(self.replicas), Prefixes(self.replicas)
        self._until: deque[tuple[float, int, Sequence[int]]] = deque()

    def choose(self, ask: Ask, now: float) -> int:
        """See the module."""
        while self._until and self._until[0][0] <= now:
            _, replica, hashes = self._until.popleft()
            self._guessed.drop(replica, hashes)
        found = self._told.leading(ask.hashes)
        for place, blocks in self._guessed.leading(ask.hashes).items():
            found[place] = max(found.get(place, 0), blocks)
        best = max(found.values(), default=0)
        if not best:
            return self.least(self.in_flight)
        return self.chance.choice([place for place, blocks in found.items() if blocks == best])

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """A guess."""
        super().sent(ask, replica, now)
        self._guessed.use(replica, ask.hashes)
        self._until.append((now + GUESS_S, replica, ask.hashes))

    def stored(self, replica: int, hashes: Sequence[int]) -> None:
        """Into the index."""
        self._told.use(replica, hashes)

    def removed(self, replica: int, hashes: Sequence[int]) -> None:
        """Out of it."""
        self._told.drop(replica, hashes)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return KvAware(setup)
