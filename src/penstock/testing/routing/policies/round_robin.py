"""Round robin."""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup


class RoundRobin(Policy):
    """One after the other; a router begins anywhere."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._next = self.chance.randrange(self.replicas)

    def choose(self, ask: Ask, now: float) -> int:
        """The next."""
        self._next = (self._next + 1) % self.replicas
        return self._next


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return RoundRobin(setup)
