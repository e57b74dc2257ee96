"""SGLang's gateway (smg), least_load: (queued + in-flight tokens) / 2,000 tokens/s + 0.15 * k / (1 - k), k the KV use.

Polled every 10 s; a queued request counts as its mean prefill of 1,024 tokens, one that the router itself sent as its prompt.
"""

from __future__ import annotations

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup

THROUGHPUT = 2000.0
MEAN_PREFILL_TOKENS = 1024.0
NEARLY = 0.999


class LeastLoad(Policy):
    """See the module."""

    scrape_s = 10.0

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._tokens = [0] * self.replicas

    def choose(self, ask: Ask, now: float) -> int:
        """The least loaded."""
        costs = []
        for place in self.everyone:
            use = min(self.kv_use[place], NEARLY)
            tokens = self.waiting[place] * MEAN_PREFILL_TOKENS + self._tokens[place]
            costs.append(tokens / THROUGHPUT + 0.15 * use / (1.0 - use))
        return self.least(costs)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Its prompt is in flight."""
        super().sent(ask, replica, now)
        self._tokens[replica] += ask.prompt_tokens

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """Until it ends."""
        super().ended(ask, replica, now, cached_tokens)
        self._tokens[replica] -= ask.prompt_tokens


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return LeastLoad(setup)
