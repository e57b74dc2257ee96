"""What one gateway worker knows: the table in force, endpoints, who waits, what was measured."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from penstock.contracts.exchange import DemandReport, RouteTable, ServiceDemand
from penstock.gateway.access import Access
from penstock.gateway.activator import Activator
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.names import Names
from penstock.gateway.pace import Pace
from penstock.gateway.peers import Peers
from penstock.gateway.quota import Quota
from penstock.gateway.telemetry.metrics import Readings, Telemetry
from penstock.gateway.telemetry.records import Records
from penstock.gateway.trace import Traces
from penstock.gateway.wire.pool import Pool
from penstock.gateway.wire.server import Server
from penstock.kit.clock import Clock

Id = tuple[str, str]
METRICS = "metrics"
GATHER_S = 0.2
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Load:
    """One service's requests since the last report: how many are in flight, how many began and failed.

    `area_s` is what those that ended took, less what passed before those that began did: with what those in flight have taken since the
    report it is the area under their number.
    """

    since: float
    in_flight: int = 0
    area_s: float = 0.0
    requests: int = 0
    failures: int = 0


class State:
    """One writer: the event loop of this worker."""

    def __init__(
        self,
        clock: Clock,
        name: str,
        max_in_flight: int,
        *,
        access: Access,
        quota: Quota,
        traces: Traces,
        pool: Pool,
        telemetry: Telemetry,
        records: Records,
        peers: Peers | None = None,
    ) -> None:
        """An empty table, which is not yet `loaded`. `peers` are the other workers of this machine."""
        self.clock = clock
        self.name = name
        self.max_in_flight = max_in_flight
        self.access = access
        self.traces = traces
        self.pool = pool
        self.names = Names(RouteTable(version=0))
        self.loaded = False
        self.endpoints = Endpoints(clock)
        self.pace = Pace()
        self.quota = quota
        self.telemetry = telemetry
        self.records = records
        self.activator = Activator(self._wake)
        self.total_in_flight = 0
        self.server: Server | None = None
        self.on_wake: Callable[[], None] = lambda: None
        self._loads: dict[Id, _Load] = {}
        self._peers = peers
        if peers is not None:
            peers.answer(METRICS, self.snapshot)

    @property
    def in_flight(self) -> dict[Id, int]:
        """Requests under way by service, where there are any."""
        return {key: load.in_flight for key, load in self._loads.items() if load.in_flight}

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
        self.access.apply(table)
        self.quota.apply(table)
        self.endpoints.keep(table)
        self.pace.keep(table)
        self.pool.keep(
            {(e.address, e.port) for s in table.services for r in s.revisions for e in r.endpoints}
        )
        self.activator.changed()
        return True

    def begin(self, key: Id, now: float) -> None:
        """A request of this service is under way."""
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = _Load(now)
        load.area_s -= now - load.since
        load.in_flight += 1
        load.requests += 1
        self.total_in_flight += 1
        self.pace.arrived(key, now)

    def end(self, key: Id, now: float, *, failed: bool) -> None:
        """It ended."""
        load = self._loads[key]
        load.area_s += now - load.since
        load.in_flight -= 1
        load.failures += failed
        self.total_in_flight -= 1
        self.pace.finished(key, now)

    def report(self, window_s: float) -> DemandReport:
        """Demand since the last report; in-flight is the average over time."""
        waiting, now = self.activator.waiting, self.clock.monotonic()
        services = []
        for key in sorted({*self._loads, *waiting}):
            load = self._loads.get(key) or _Load(now)
            area_s = load.area_s + load.in_flight * (now - load.since)
            services.append(
                ServiceDemand(
                    namespace=key[0],
                    name=key[1],
                    in_flight=area_s / window_s if window_s > 0 else 0.0,
                    waiting=waiting.get(key, 0),
                    requests=load.requests,
                    failures=load.failures,
                    wake=bool(waiting.get(key)),
                )
            )
            if load.in_flight:
                self._loads[key] = _Load(now, load.in_flight)
            else:
                self._loads.pop(key, None)
        return DemandReport(
            gateway=self.name,
            at=self.clock.now(),
            window_s=window_s,
            table_version=self.names.table.version,
            services=tuple(services),
        )

    def snapshot(self) -> bytes:
        """All that this worker has counted, and what it holds now."""
        server = self.server
        return self.telemetry.snapshot(
            Readings(
                in_flight=self.in_flight,
                waiting=self.activator.waiting,
                connections=len(server.connections) if server else 0,
                table_version=self.names.table.version,
                refused=server.refused if server else {},
                endpoint_states=self._endpoint_states(),
                log_lines_dropped=self.records.lines_dropped,
                spans_dropped=self.records.spans_dropped,
                openings=self.endpoints.openings,
                limit_faults={**self.quota.faults, **(self._peers.faults if self._peers is not None else {})},
            )
        )

    async def gather_metrics(self) -> list[bytes]:
        """The snapshots of the other workers that answer in time."""
        return await self._peers.gather(METRICS, GATHER_S) if self._peers is not None else []

    def _endpoint_states(self) -> dict[tuple[str, str, str, str], int]:
        states = self.endpoints.states()
        return {
            (service.namespace, service.name, endpoint.name, states[endpoint.name]): 1
            for service in self.names.table.services
            for revision in service.revisions
            for endpoint in revision.endpoints
            if endpoint.name in states
        }

    def _wake(self) -> None:
        self.on_wake()
