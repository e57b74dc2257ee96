"""Kthena, kvcache-aware + least-request (`scheduler/plugins/kvcache_aware.go`).

Engines' KV events, in Redis; at most 128 blocks of the engine's size (the code: 16 tokens; its benchmark: 128). Score = 100 * leading
matches / total. Sequence numbers are not watched.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policies.kthena_least_request import Kthena
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.prefixes import Prefixes

MOST_BLOCKS = 128


class KthenaKvAware(Kthena):
    """See the module."""

    hears_events = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._prefixes = Prefixes(self.replicas)

    def bonus(self, ask: Ask) -> dict[int, int]:
        """Of what the plugin looks at, the share that a replica holds."""
        hashes = ask.hashes[:MOST_BLOCKS]
        return {place: 100 * n // len(hashes) for place, n in self._prefixes.leading(hashes).items()}

    def stored(self, replica: int, hashes: Sequence[int]) -> None:
        """Into Redis."""
        self._prefixes.use(replica, hashes)

    def removed(self, replica: int, hashes: Sequence[int]) -> None:
        """Out of it."""
        self._prefixes.drop(replica, hashes)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return KthenaKvAware(setup)
