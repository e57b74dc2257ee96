"""Least request: the fewest requests under way by the router's own count, equals by chance (Envoy's LEAST_REQUEST over all hosts)."""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup


class LeastRequest(Policy):
    """See the module."""

    def choose(self, ask: Ask, now: float) -> int:
        """The least busy."""
        return self.least(self.in_flight)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return LeastRequest(setup)
