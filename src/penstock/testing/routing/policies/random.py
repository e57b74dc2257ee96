"""Random."""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup


class Chance(Policy):
    """Any replica, as likely as any other."""

    def choose(self, ask: Ask, now: float) -> int:
        """Drawn."""
        return self.chance.randrange(self.replicas)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Chance(setup)
