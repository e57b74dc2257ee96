"""AIBrix, vtc-basic: heavy users go to later replicas.

A user's tokens (input + 2 * output, 5-minute window) / bucket, at most n - 1, are its slot, where bucket = max(1,000, (min + max) / 2 of all
users' tokens). Lowest |i - slot| + min(running / 100, 1) + 0.1 * random (`algorithms/vtc`).
"""

from __future__ import annotations

from collections import Counter, deque
from heapq import heappop, heappush

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup

WINDOW_S = 300.0
LEAST_BUCKET = 1000.0


class Range:
    """The least and the most of many numbers that change: heaps of what any of them was, looked through for what one still is."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._low: list[int] = []
        self._high: list[int] = []

    def change(self, before: int | None, after: int) -> None:
        """One of them is `after` now; None for one that is new."""
        if before is not None:
            self._counts[before] -= 1
            if not self._counts[before]:
                del self._counts[before]
        if not self._counts[after]:
            heappush(self._low, after)
            heappush(self._high, -after)
        self._counts[after] += 1

    def least(self) -> int:
        """0 of none."""
        while self._low and not self._counts[self._low[0]]:
            heappop(self._low)
        return self._low[0] if self._low else 0

    def most(self) -> int:
        """0 of none."""
        while self._high and not self._counts[-self._high[0]]:
            heappop(self._high)
        return -self._high[0] if self._high else 0


class Vtc(Policy):
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._tokens: dict[str, int] = {}
        self._range = Range()
        self._window: deque[tuple[float, str, int]] = deque()

    def choose(self, ask: Ask, now: float) -> int:
        """See the module."""
        while self._window and self._window[0][0] <= now - WINDOW_S:
            _, tenant, tokens = self._window.popleft()
            self._charge(tenant, -tokens)
        bucket = max(LEAST_BUCKET, (self._range.least() + self._range.most()) / 2)
        slot = min(self._tokens.get(ask.tenant, 0) / bucket, self.replicas - 1)
        chance = self.chance.random
        return self.least(
            [
                abs(place - slot) + (busy / 100 if busy < 100 else 1.0) + 0.1 * chance()
                for place, busy in enumerate(self.in_flight)
            ]
        )

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """Its user is charged."""
        super().ended(ask, replica, now, cached_tokens)
        tokens = ask.prompt_tokens + 2 * ask.output_tokens
        self._charge(ask.tenant, tokens)
        self._window.append((now, ask.tenant, tokens))

    def _charge(self, tenant: str, tokens: int) -> None:
        before = self._tokens.get(tenant)
        after = self._tokens[tenant] = (before or 0) + tokens
        self._range.change(before, after)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Vtc(setup)
