"""llm-d's endpoint picker by its chart's default: queue 2, KV use 2, prefix 3, the prefix index approximate.

Metrics each 50 ms. queue = (max - q) / (max - min), 1 where all are equal; KV use = 1 - u; prefix = matched / total blocks of an LRU for
each replica, sized as the engine's cache (auto-tuned), filled when a request is routed, head first. Highest sum, equals by chance. Chart:
`config/charts/routerlib`, plugins: `approximateprefix`, `max-score-picker`.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.prefixes import Prefixes


class LlmD(Policy):
    """The three scorers, with weights; `matched` says what is known of caches."""

    scrape_s = 0.05
    queue_weight, kv_weight, prefix_weight = 2.0, 2.0, 3.0

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.prefixes = Prefixes(self.replicas, setup.capacity_blocks)
        self._costs = self._without_prefix()

    def choose(self, ask: Ask, now: float) -> int:
        """The highest sum."""
        costs, total = self._costs.copy(), len(ask.hashes) or 1
        for place, blocks in self.matched(ask).items():
            costs[place] -= self.prefix_weight * blocks / total
        return self.least(costs)

    def scraped(self, now: float) -> None:
        """What the other two scorers say is the same until the next."""
        super().scraped(now)
        self._costs = self._without_prefix()

    def _without_prefix(self) -> list[float]:
        low, high = min(self.waiting), max(self.waiting)
        span = high - low
        return [
            -(self.queue_weight * ((high - waiting) / span if span else 1.0) + self.kv_weight * (1.0 - use))
            for waiting, use in zip(self.waiting, self.kv_use, strict=True)
        ]

    def matched(self, ask: Ask) -> Mapping[int, int]:
        """Leading blocks by replica."""
        return self.prefixes.leading(ask.hashes)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Known from now on."""
        super().sent(ask, replica, now)
        self.prefixes.use(replica, ask.hashes, tail_first=False)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return LlmD(setup)
