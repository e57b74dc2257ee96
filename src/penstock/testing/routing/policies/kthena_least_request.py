"""Kthena, least-request filter and score (`scheduler/plugins/least_request.go`).

Filter: replicas with 10 or more waiting requests are left out, unless all have. Score: base = inflight + 100 * max(inflight - running, 0),
100 * (max - base) / max, an integer. Metrics each second is an assumption. The five best are tried in order, equals in any order; here
the best is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup

MAX_WAITING = 10


class Kthena(Policy):
    """The pipeline, with least-request as its only score; others add theirs by `bonus`."""

    scrape_s = 1.0

    def bonus(self, ask: Ask) -> dict[int, int]:
        """0 to 100 for each replica that has more than 0 of another score."""
        return {}

    def choose(self, ask: Ask, now: float) -> int:
        """The highest sum, all weights 1."""
        left = [place for place in self.everyone if self.waiting[place] < MAX_WAITING] or self.everyone
        scores, bonus = self._idle(left), self.bonus(ask)
        costs = {place: -score - bonus.get(place, 0) for place, score in zip(left, scores, strict=True)}
        return self.least(costs, left)

    def _idle(self, left: Sequence[int]) -> list[int]:
        busy, running = self.in_flight, self.running
        bases = [busy[place] + 100 * max(busy[place] - running[place], 0) for place in left]
        most = max(bases)
        return [100 * (most - base) // most if most else 100 for base in bases]


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Kthena(setup)
