"""What one gateway worker knows: the table in force, endpoints, who waits, what was measured."""

from __future__ import annotations

import logging
from collections.abc import Callable

from penstock.contracts.exchange import DemandReport, RouteTable, ServiceDemand
from penstock.gateway.activator import Activator
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.names import Names
from penstock.gateway.telemetry import Telemetry
from penstock.gateway.wire.client import Pool
from penstock.gateway.wire.server import Server
from penstock.kit.clock import Clock

Id = tuple[str, str]
logger = logging.getLogger(__name__)


class State:
    """One writer: the event loop of this worker."""

    def __init__(self, clock: Clock, name: str, max_in_flight: int) -> None:
        """An empty table, which is not yet `loaded`."""
        self.clock = clock
        self.name = name
        self.max_in_flight = max_in_flight
        self.names = Names(RouteTable(version=0))
        self.loaded = False
        self.endpoints = Endpoints(clock)
        self.pool = Pool()
        self.telemetry = Telemetry()
        self.activator = Activator(self._wake)
        self.in_flight: dict[Id, int] = {}
        self.total_in_flight = 0
        self.server: Server | None = None
        self.on_wake: Callable[[], None] = lambda: None
        self._area: dict[Id, float] = {}
        self._requests: dict[Id, int] = {}
        self._failures: dict[Id, int] = {}
        self._changed_at: dict[Id, float] = {}

    @property
    def is_draining(self) -> bool:
        """Whether the gateway is about to end."""
        return self.server is not None and self.server.draining

    def apply(self, table: RouteTable) -> bool:
        """Serve from `table` from now on; whether it was taken: one not newer than the present is ignored."""
        present = self.names.table.version
        if self.loaded and table.version <= present:
            if table.version < present:
                logger.warning(
                    "the route table %d is ignored: the one in force is newer, %d", table.version, present
                )
            return False
        self.names = Names(table)
        self.loaded = True
        self.endpoints.keep(table)
        self.pool.keep(
            {(e.address, e.port) for s in table.services for r in s.revisions for e in r.endpoints}
        )
        self.activator.changed()
        return True

    def begin(self, key: Id) -> None:
        """A request of this service is under way."""
        self._account(key)
        self.in_flight[key] = self.in_flight.get(key, 0) + 1
        self.total_in_flight += 1
        self._requests[key] = self._requests.get(key, 0) + 1

    def end(self, key: Id, *, failed: bool) -> None:
        """It ended."""
        self._account(key)
        self.in_flight[key] -= 1
        self.total_in_flight -= 1
        if failed:
            self._failures[key] = self._failures.get(key, 0) + 1

    def report(self, window_s: float) -> DemandReport:
        """Demand since the last report; in-flight is the average over time."""
        waiting = self.activator.waiting
        keys = sorted({*self.in_flight, *waiting, *self._requests})
        for key in keys:
            self._account(key)
        services = tuple(
            ServiceDemand(
                namespace=key[0],
                name=key[1],
                in_flight=self._area.pop(key, 0.0) / window_s if window_s > 0 else 0.0,
                waiting=waiting.get(key, 0),
                requests=self._requests.pop(key, 0),
                failures=self._failures.pop(key, 0),
                wake=bool(waiting.get(key)),
            )
            for key in keys
        )
        for key in keys:
            if not self.in_flight.get(key):
                self.in_flight.pop(key, None)
                self._changed_at.pop(key, None)
        return DemandReport(
            gateway=self.name,
            at=self.clock.now(),
            window_s=window_s,
            table_version=self.names.table.version,
            services=services,
        )

    def _account(self, key: Id) -> None:
        now = self.clock.monotonic()
        since = self._changed_at.get(key, now)
        self._area[key] = self._area.get(key, 0.0) + self.in_flight.get(key, 0) * (now - since)
        self._changed_at[key] = now

    def _wake(self) -> None:
        self.on_wake()
