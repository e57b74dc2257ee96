"""AIBrix, vtc-basic: heavy users go to later replicas.

A user's tokens (input + 2 * output, 5-minute window) / bucket, at most n - 1, are its slot, where bucket = max(1,000, (min + max) / 2 of all
users' tokens). Lowest |i - slot| + min(running / 100, 1) + 0.1 * random (`algorithms/vtc`).
"""

from __future__ import annotations

from collections import Counter, deque

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup

WINDOW_S = 300.0
LEAST_BUCKET = 1000.0


class Vtc(Policy):
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._tokens: Counter[str] = Counter()
        self._window: deque[tuple[float, str, int]] = deque()

    def choose(self, ask: Ask, now: float) -> int:
        """See the module."""
        while self._window and self._window[0][0] <= now - WINDOW_S:
            _, tenant, tokens = self._window.popleft()
            self._tokens[tenant] -= tokens
        used = self._tokens.values()
        bucket = max(LEAST_BUCKET, (min(used, default=0) + max(used, default=0)) / 2)
        slot = min(self._tokens[ask.tenant] / bucket, self.replicas - 1)
        costs = [
            abs(place - slot) + min(self.in_flight[place] / 100, 1.0) + 0.1 * self.chance.random()
            for place in self.everyone
        ]
        return self.least(costs)

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """Its user is charged."""
        super().ended(ask, replica, now, cached_tokens)
        tokens = ask.prompt_tokens + 2 * ask.output_tokens
        self._tokens[ask.tenant] += tokens
        self._window.append((now, ask.tenant, tokens))


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Vtc(setup)
