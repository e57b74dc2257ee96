"""Power of two: the less busy of two that are drawn (Mitzenmacher 2001; `power_of_two` of SGLang's gateway)."""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup


class PowerOfTwo(Policy):
    """See the module."""

    def choose(self, ask: Ask, now: float) -> int:
        """Two different ones are drawn, where there are two."""
        drawn = self.chance.sample(self.everyone, min(2, self.replicas))
        return min(drawn, key=self.in_flight.__getitem__)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return PowerOfTwo(setup)
