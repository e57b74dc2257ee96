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

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._left: Sequence[int] = ()
        self._bases = [0] * self.replicas

    def bonus(self, ask: Ask) -> dict[int, int]:
        """0 to 100 for each replica that has more than 0 of another score."""
        return {}

    def choose(self, ask: Ask, now: float) -> int:
        """The highest sum, all weights 1."""
        left, bases = self._left, self._bases
        most = max(map(bases.__getitem__, left)) if left else max(bases)
        costs = [-(100 * (most - base) // most) for base in bases] if most else [-100] * self.replicas
        for place, more in self.bonus(ask).items():
            costs[place] -= more
        return self.least(costs, left)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Its base grows."""
        super().sent(ask, replica, now)
        self._bases[replica] = self._base(replica)

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """And becomes less."""
        super().ended(ask, replica, now, cached_tokens)
        self._bases[replica] = self._base(replica)

    def scraped(self, now: float) -> None:
        """What is asked of metrics is the same until the next."""
        super().scraped(now)
        left = [place for place in self.everyone if self.waiting[place] < MAX_WAITING]
        self._left = left if len(left) < self.replicas else ()
        self._bases = [self._base(place) for place in self.everyone]

    def _base(self, place: int) -> int:
        busy = self.in_flight[place]
        return busy + 100 * max(busy - self.running[place], 0)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Kthena(setup)
