"""AIBrix, prefix-cache: an LRU of 200,000 blocks; load decides beyond an imbalance of 8 running requests.

If max - min of running requests > 8, the least loaded. Else replicas by (match % descending, running ascending), the first with running <=
mean + 1 standard deviation; else the least loaded. Running is the router's own count (`algorithms/prefix_cache.go`).
"""

from __future__ import annotations

from collections.abc import Sequence
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
            most = usual(busy)
            left = [place for place in found if busy[place] <= most]
            if left:
                return min(left, key=lambda place: (-found[place], busy[place]))
        return self.least(busy)


def usual(busy: Sequence[int]) -> float:
    """The mean, and so many standard deviations more: exact enough for every comparison with an integer."""
    count, total = len(busy), sum(busy)
    return total / count + DEVIATIONS * sqrt(count * sum(map(mul, busy, busy)) - total * total) / count


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return AibrixPrefix(setup)
