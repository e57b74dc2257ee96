"""SGLang's gateway (smg), prefix_hash: a hash of the first 256 tokens on a ring, passing over replicas with more than 1.25 times the mean load."""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.ring import Ring

PREFIX_TOKENS = 256
LOAD_FACTOR = 1.25


class PrefixHash(Policy):
    """See the module. Prompts that are shorter than a block have a hash of their own."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._ring = Ring(self.replicas)
        self._blocks = max(1, PREFIX_TOKENS // setup.block_tokens)

    def choose(self, ask: Ask, now: float) -> int:
        """The first on the ring that is not too busy."""
        known = ask.hashes[: self._blocks]
        key = known[-1] if known else self.chance.getrandbits(64)
        most = LOAD_FACTOR * (sum(self.in_flight) + 1) / self.replicas
        busy = self.in_flight
        return next(
            (place for place in self._ring.walk(key) if busy[place] + 1 <= max(most, 1.0)), self.least(busy)
        )


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return PrefixHash(setup)
