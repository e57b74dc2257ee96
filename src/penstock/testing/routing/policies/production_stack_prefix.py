"""vLLM production-stack, prefixaware: any of the replicas with the deepest match in a trie of 128-character chunks.

No eviction, no load; the whole path is entered when a request is routed (`routers/routing_logic.py`, `prefix/hashtrie.py`).
"""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.prefixes import Prefixes


class PrefixAware(Policy):
    """See the module. Chunks are the engines' blocks."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._prefixes = Prefixes(self.replicas)

    def choose(self, ask: Ask, now: float) -> int:
        """By chance where nobody holds any."""
        found = self._prefixes.leading(ask.hashes)
        best = max(found.values(), default=0)
        deepest = [place for place, blocks in found.items() if blocks == best]
        return self.chance.choice(deepest) if deepest else self.chance.randrange(self.replicas)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Into the trie."""
        super().sent(ask, replica, now)
        self._prefixes.use(replica, ask.hashes)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return PrefixAware(setup)
