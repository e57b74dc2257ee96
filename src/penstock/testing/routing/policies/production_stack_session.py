"""vLLM production-stack, session: a ring by the session's header; without one, the replica with the lowest rate of requests (the last 60 s)."""

from __future__ import annotations

from collections import deque

from penstock.kit.hashing import draw
from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policy import Policy, Setup
from penstock.testing.routing.ring import Ring

WINDOW_S = 60.0


class Session(Policy):
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._ring = Ring(self.replicas)
        self._recent = [0] * self.replicas
        self._sent: deque[tuple[float, int]] = deque()

    def choose(self, ask: Ask, now: float) -> int:
        """See the module."""
        while self._sent and self._sent[0][0] <= now - WINDOW_S:
            self._recent[self._sent.popleft()[1]] -= 1
        if ask.session:
            return next(self._ring.walk(draw(ask.session)))
        return self.least(self._recent)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Counts for a minute."""
        super().sent(ask, replica, now)
        self._recent[replica] += 1
        self._sent.append((now, replica))


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Session(setup)
