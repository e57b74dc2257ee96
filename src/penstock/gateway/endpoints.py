"""What this gateway knows of each endpoint by itself: requests in flight, and whether it failed lately."""

from __future__ import annotations

from collections.abc import Collection

from penstock.contracts.exchange import RouteTable
from penstock.decide.retry import set_aside_s
from penstock.kit.clock import Clock


class Endpoints:
    """By endpoint name, that is by pod."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is known."""
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}
        self.in_flight: dict[str, int] = {}

    def begin(self, name: str) -> None:
        """A request goes there."""
        self.in_flight[name] = self.in_flight.get(name, 0) + 1

    def end(self, name: str) -> None:
        """A request came back, or was given up."""
        left = self.in_flight.get(name, 0) - 1
        if left > 0:
            self.in_flight[name] = left
        else:
            self.in_flight.pop(name, None)

    def failed(self, name: str) -> None:
        """It refused or broke a connection: avoid it for a while, longer each time."""
        self._failures[name] = self._failures.get(name, 0) + 1
        self._until[name] = self._clock.monotonic() + set_aside_s(self._failures[name])

    def answered(self, name: str) -> None:
        """It answers."""
        if name in self._failures:
            del self._failures[name]
            self._until.pop(name, None)

    def set_aside(self) -> Collection[str]:
        """Endpoints to avoid now."""
        if not self._until:
            return ()
        now = self._clock.monotonic()
        return {name for name, until in self._until.items() if until > now}

    def keep(self, table: RouteTable) -> None:
        """Forget the endpoints that are gone."""
        known = {e.name for s in table.services for r in s.revisions for e in r.endpoints}
        for name in [name for name in self._failures if name not in known]:
            del self._failures[name]
            self._until.pop(name, None)
