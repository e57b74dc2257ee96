"""Ray Serve LLM's PrefixCacheAffinityRouter, its defaults: imbalance is never too much, eviction is off.

Where at least 10 % of the prompt match, the replicas with the longest match, the less busy of two of them; else those with the smallest
tree, likewise (`serve/.../prefix_aware`).
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.sent_prefixes import SentPrefixes

MATCH_RATE = 0.10


class RayPrefix(SentPrefixes):
    """See the module."""

    def choose(self, ask: Ask, now: float) -> int:
        """See the module."""
        found = self.prefixes.leading(ask.hashes)
        best = max(found.values(), default=0)
        if best * self.setup.block_tokens >= MATCH_RATE * ask.prompt_tokens and best:
            return self._better_of_two([place for place, blocks in found.items() if blocks == best])
        sizes = self.prefixes.sizes()
        smallest = min(sizes)
        return self._better_of_two([place for place in self.everyone if sizes[place] == smallest])

    def _better_of_two(self, places: Sequence[int]) -> int:
        drawn = self.chance.sample(places, min(2, len(places)))
        return min(drawn, key=self.in_flight.__getitem__)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return RayPrefix(setup)
