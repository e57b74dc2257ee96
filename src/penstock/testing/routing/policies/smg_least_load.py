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
        self._queued = [0.0] * self.replicas
        self._of_use = [0.0] * self.replicas

    def choose(self, ask: Ask, now: float) -> int:
        """The least loaded."""
        each = zip(self._queued, self._tokens, self._of_use, strict=True)
        return self.least([(queued + own) / THROUGHPUT + of_use for queued, own, of_use in each])

    def scraped(self, now: float) -> None:
        """What is asked of metrics is the same until the next."""
        super().scraped(now)
        uses = [min(use, NEARLY) for use in self.kv_use]
        self._of_use = [0.15 * use / (1.0 - use) for use in uses]
        self._queued = [waiting * MEAN_PREFILL_TOKENS for waiting in self.waiting]

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
