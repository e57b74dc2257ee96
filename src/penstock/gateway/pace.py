"""What this gateway knows of each service's pace: how fast requests are completed, and how many retries are left."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.contracts.exchange import RouteTable
from penstock.decide.retry_after import drained, measured
from penstock.decide.retry_budget import AT_REST, refilled

Id = tuple[str, str]
FOLD_S = 0.25
"""Counts are folded into the averages no more often than this, so that a request costs two additions."""


@dataclass(slots=True)
class _Meter:
    since: float
    at: float
    requests: int = 0
    completed: int = 0
    rate_per_s: float = 0.0
    balance: float = AT_REST

    def fold(self, now: float) -> None:
        elapsed_s = now - self.at
        if elapsed_s > 0.0:
            self.balance = refilled(self.balance, self.requests, elapsed_s)
            self.rate_per_s = drained(self.rate_per_s, self.completed, elapsed_s)
            self.at, self.requests, self.completed = now, 0, 0


class Pace:
    """By service. Times are monotonic, as the caller has read them anyway."""

    def __init__(self) -> None:
        """Nothing is known: no rate, and budgets at rest."""
        self._meters: dict[Id, _Meter] = {}

    def arrived(self, key: Id, now: float) -> None:
        """A request of this service goes on its way; its retries are not counted here."""
        meter = self._meters.get(key)
        if meter is None:
            meter = self._meters[key] = _Meter(now, now)
        meter.requests += 1
        if now - meter.at >= FOLD_S:
            meter.fold(now)

    def finished(self, key: Id, now: float) -> None:
        """One ended, however it did."""
        meter = self._meters.get(key)
        if meter is not None:
            meter.completed += 1
            if now - meter.at >= FOLD_S:
                meter.fold(now)

    def budget(self, key: Id, now: float) -> float:
        """How many retries this service may make now; below 1: none."""
        meter = self._meters.get(key)
        if meter is None:
            return AT_REST
        meter.fold(now)
        return meter.balance

    def retried(self, key: Id) -> None:
        """One was made that was not free. Ask `budget` before."""
        meter = self._meters.get(key)
        if meter is not None:
            meter.balance -= 1.0

    def drain_per_s(self, key: Id, now: float) -> float:
        """Requests completed per second lately; 0 where nothing is known."""
        meter = self._meters.get(key)
        if meter is None:
            return 0.0
        meter.fold(now)
        return measured(meter.rate_per_s, now - meter.since)

    def keep(self, table: RouteTable) -> None:
        """Forget the services that are gone."""
        known = {(s.namespace, s.name) for s in table.services}
        for key in [key for key in self._meters if key not in known]:
            del self._meters[key]
