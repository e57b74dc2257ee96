"""SGLang's gateway, cache_aware, defaults of its Rust struct: threshold 0.5, balance 32 and 1.1, trees of 10,000 characters every 30 s.

On imbalance of requests under way (max - min > 32 and max > 1.1 * min) the least loaded; else the replica with the longest match, if that is
more than the threshold of the prompt; else the least loaded. The prompt is entered for that replica whatever decided; every 30 s its oldest
leaves are let go until its tree is no larger than allowed (4 characters a token). Of equal matches any. `policies/cache_aware.rs`.
"""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.sent_prefixes import SentPrefixes

TOKEN_CHARACTERS = 4


class CacheAware(SentPrefixes):
    """See the module."""

    threshold, balance_abs, balance_rel = 0.5, 32, 1.1
    tree_characters, evict_s = 10_000, 30.0

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._most = self.tree_characters // TOKEN_CHARACTERS // setup.block_tokens
        self._evict_at = self.evict_s

    def choose(self, ask: Ask, now: float) -> int:
        """See the module."""
        if now >= self._evict_at:
            self._evict_at = now + self.evict_s
            for place in self.everyone:
                self.prefixes.trim(place, self._most)
        low, high = min(self.in_flight), max(self.in_flight)
        if high - low > self.balance_abs and high > self.balance_rel * low:
            return self.least(self.in_flight)
        found = self.prefixes.leading(ask.hashes)
        best = max(found.values(), default=0)
        if best * self.setup.block_tokens > self.threshold * ask.prompt_tokens:
            return self.chance.choice([place for place, blocks in found.items() if blocks == best])
        return self.least(self.in_flight)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return CacheAware(setup)
