"""What many baselines have in common: they take a replica to hold what they have sent there."""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.prefixes import Prefixes


class SentPrefixes(Policy):
    """Every prompt is entered for the replica that it goes to, whatever decided; at most `blocks` for each (0: no bound)."""

    def __init__(self, setup: Setup, blocks: int = 0) -> None:
        super().__init__(setup)
        self.prefixes = Prefixes(self.replicas, blocks)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """It is held there from now on."""
        super().sent(ask, replica, now)
        self.prefixes.use(replica, ask.hashes)
