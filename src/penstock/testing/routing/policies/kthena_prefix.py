"""Kthena, prefix-cache + least-request (`scheduler/plugins/prefix.go`).

Blocks of 64 bytes, at most 128 of them, so the first 2,048 tokens at four bytes each; an LRU of 50,000 blocks for each replica, filled from
tail to head after a successful answer. Score = floor(100 * matched / total), for the five that match most. Blocks here are the engines'.
"""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policies.kthena_least_request import Kthena
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.prefixes import Prefixes

SEEN_TOKENS = 2048
LRU_TOKENS = 50_000 * 16
TOP = 5


class KthenaPrefix(Kthena):
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._seen = max(1, SEEN_TOKENS // setup.block_tokens)
        self._prefixes = Prefixes(self.replicas, LRU_TOKENS // setup.block_tokens)

    def bonus(self, ask: Ask) -> dict[int, int]:
        """Of what the plugin looks at, the share that a replica was given before."""
        hashes = ask.hashes[: self._seen]
        found = self._prefixes.leading(hashes)
        best = sorted(found, key=lambda place: -found[place])[:TOP]
        return {place: 100 * found[place] // len(hashes) for place in best}

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """Known from now on."""
        super().ended(ask, replica, now, cached_tokens)
        if cached_tokens >= 0:
            self._prefixes.use(replica, ask.hashes[: self._seen])


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return KthenaPrefix(setup)
