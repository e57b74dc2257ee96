"""llm-d's endpoint picker with its precise prefix cache: prefix 2, KV use 1, queue 1 (its samples), by engines' KV events.

No speculative inserts and no replay, which are off by default. Plugin: `preciseprefixcache`.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policies.llm_d_default import LlmD
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.prefixes import Prefixes


class LlmDPrecise(LlmD):
    """See the module."""

    hears_events = True
    queue_weight, kv_weight, prefix_weight = 1.0, 1.0, 2.0

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.prefixes = Prefixes(self.replicas)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Only events tell."""
        Policy.sent(self, ask, replica, now)

    def stored(self, replica: int, hashes: Sequence[int]) -> None:
        """Into the index."""
        self.prefixes.use(replica, hashes)

    def removed(self, replica: int, hashes: Sequence[int]) -> None:
        """Out of it."""
        self.prefixes.drop(replica, hashes)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return LlmDPrecise(setup)
