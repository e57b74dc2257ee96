"""NVIDIA Dynamo's KV router without events: what was routed to a replica counts as held for 120 s after its last use."""

from __future__ import annotations

from collections import deque

from penstock.testing.routing.ask import Ask
from penstock.testing.routing.policies.dynamo import Dynamo
from penstock.testing.routing.policy import Policy, Setup

KEPT_S = 120.0


class DynamoApproximate(Dynamo):
    """See the module."""

    hears_events = False

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._used: deque[tuple[float, int, Ask]] = deque()
        self._last: list[dict[int, float]] = [{} for _ in self.everyone]

    def choose(self, ask: Ask, now: float) -> int:
        """After what is too old is forgotten."""
        while self._used and self._used[0][0] <= now - KEPT_S:
            at, replica, old = self._used.popleft()
            last = self._last[replica]
            late = [key for key in old.hashes if last.get(key) == at]
            for key in late:
                del last[key]
            self.prefixes.drop(replica, late)
        return super().choose(ask, now)

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Predicted to be stored."""
        super().sent(ask, replica, now)
        self.prefixes.use(replica, ask.hashes)
        self._last[replica].update(dict.fromkeys(ask.hashes, now))
        self._used.append((now, replica, ask))


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return DynamoApproximate(setup)
