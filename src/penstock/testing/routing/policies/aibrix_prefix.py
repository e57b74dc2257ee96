"""AIBrix, prefix-cache: an LRU of 200,000 blocks; load decides beyond an imbalance of 8 running requests.

If max - min of running requests > 8, the least loaded. Else replicas by (match % descending, running ascending), the first with running <=
mean + 1 standard deviation; else the least loaded. Running is the router's own count (`algorithms/prefix_cache.go`).
"""

from __future__ import annotations

from math import sqrt
from operator import mul

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.sent_prefixes import SentPrefixes

IMBALANCE = 8
DEVIATIONS = 1.0
LRU_BLOCKS = 200_000


class AibrixPrefix(SentPrefixes):
    """See the module. The LRU is shared by all replicas; here each has its part."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, max(1, LRU_BLOCKS // len(setup.engines)))

    def choose(self, ask: Ask, now: float) -> int:
        """See the module."""
        busy = self.in_flight
        if max(busy) - min(busy) > IMBALANCE:
            return self.least(busy)
        found = self.prefixes.leading(ask.hashes)
        if found:
            most = self._usual()
            left = [place for place in found if busy[place] <= most]
            if left:
                return min(left, key=lambda place: (-found[place], busy[place]))
        return self.least(busy)

    def _usual(self) -> float:
        """The mean of requests under way, and so many standard deviations more."""
        busy, count, total = self.in_flight, self.replicas, sum(self.in_flight)
        return total / count + DEVIATIONS * sqrt(count * sum(map(mul, busy, busy)) - total * total) / count


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return AibrixPrefix(setup)
