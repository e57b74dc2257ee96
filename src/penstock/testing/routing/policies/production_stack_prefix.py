"""vLLM production-stack, prefixaware: any of the replicas with the deepest match in a trie of 128-character chunks.

No eviction, no load; the whole path is entered when a request is routed (`routers/routing_logic.py`, `prefix/hashtrie.py`).
"""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.sent_prefixes import SentPrefixes


class PrefixAware(SentPrefixes):
    """See the module. Chunks are the engines' blocks."""

    def choose(self, ask: Ask, now: float) -> int:
        """By chance where nobody holds any."""
        found = self.prefixes.leading(ask.hashes)
        best = max(found.values(), default=0)
        deepest = [place for place, blocks in found.items() if blocks == best]
        return self.chance.choice(deepest) if deepest else self.chance.randrange(self.replicas)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return PrefixAware(setup)
