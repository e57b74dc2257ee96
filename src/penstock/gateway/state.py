"""What one gateway worker knows: the table in force, endpoints, who waits, what was measured."""

from __future__ import annotations

import logging
from collections.abc import Callable

from penstock.contracts.exchange import DemandReport, Endpoint, RouteTable, ServiceRoute
from penstock.decide.retry_after import retry_after_s
from penstock.gateway.access import Access
from penstock.gateway.activator import Activator
from penstock.gateway.demand import Demand, ServiceLoad
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.exchanged import Exchanged
from penstock.gateway.gossip import Gossip
from penstock.gateway.joined import Joined
from penstock.gateway.names import Names, full_name
from penstock.gateway.pace import Pace
from penstock.gateway.peers import Peers
from penstock.gateway.probes import Probes
from penstock.gateway.prompts import Prompts
from penstock.gateway.quota import Quota
from penstock.gateway.rooms import Rooms
from penstock.gateway.router import OpenProfile
from penstock.gateway.routing import Routing
from penstock.gateway.telemetry.metrics import Readings, Telemetry
from penstock.gateway.telemetry.records import Records
from penstock.gateway.tokenizers import Tokenizers
from penstock.gateway.trace import Traces
from penstock.gateway.way import Ways
from penstock.gateway.wire.pool import Pool
from penstock.gateway.wire.server import Server
from penstock.kit.clock import Clock
from penstock.kit.errors import Unavailable

Id = tuple[str, str]
METRICS = "metrics"
GATHER_S = 0.2
CONTROL_PLANE_START_S = 10.0
"""Longer than a control plane that was started together with its gateways takes until it tells them their routes."""
logger = logging.getLogger(__name__)


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
        open_profile: OpenProfile,
        tokenizers: Tokenizers | None = None,
        peers: Peers | None = None,
    ) -> None:
        """An empty table, which is not yet `loaded`. `peers` are the other workers of this machine.

        `kept_since` (monotonic seconds) is set by whoever applies a table that an earlier process was told.
        """
        self.clock, self.name, self.max_in_flight = clock, name, max_in_flight
        self.access = access
        self.traces = traces
        self.pool = pool
        self.names = Names(RouteTable(version=0))
        self.loaded = False
        self.kept_since: float | None = None
        self.endpoints = Endpoints(clock)
        self.pace = Pace()
        self.demand = Demand()
        self.quota = quota
        self.telemetry, self.records = telemetry, records
        self.joined = Joined()
        self.endpoints.joined, self.endpoints.on_lost = self.joined.names, self._lost
        self.probes = Probes(pool, self._ready)
        self.activator = Activator(clock, self.demand, self._find, wake=self._wake, probe=self.probes.watch)
        self.prompts = Prompts(tokenizers)
        self.routing = Routing(
            pool,
            clock,
            open_profile,
            self.demand,
            is_precise=self.prompts.is_precise,
            waiting=self.activator.waiting_for,
        )
        self._tokenizers = tokenizers
        if tokenizers is not None:
            tokenizers.on_change = self.routing.rehash
        self.ways = Ways(self.endpoints, self.routing, self.prompts, records)
        self.rooms = Rooms(clock, self.routing.routers, self.demand, self.pace, telemetry, self.ways.aside)
        self.total_in_flight = 0
        self.server: Server | None = None
        self.gossip: Gossip | None = None
        self.on_wake: Callable[[], None] = lambda: None
        self._peers = peers
        if peers is not None:
            peers.answer(METRICS, self.snapshot)
            records.join(peers)

    @property
    def in_flight(self) -> dict[Id, int]:
        """Requests under way by service, where there are any."""
        return {key: load.in_flight for key, load in self.demand.loads.items() if load.in_flight}

    @property
    def is_draining(self) -> bool:
        """Whether the gateway is about to end."""
        return self.server is not None and self.server.draining

    @property
    def is_ready(self) -> bool:
        """Whether there are routes from the control plane, or kept ones that it has left alone for so long that they must do."""
        kept_since = self.kept_since
        return self.loaded and (
            kept_since is None or self.clock.monotonic() - kept_since >= CONTROL_PLANE_START_S
        )

    def apply(self, table: RouteTable) -> bool:
        """Serve from `table` from now on; whether it was taken: one not newer than the present is ignored."""
        self.kept_since = None
        present = self.names.table.version
        if self.loaded and table.version <= present:
            if table.version < present:
                logger.warning(
                    "the route table %d is ignored: the one in force is newer, %d", table.version, present
                )
            return False
        table = self.joined.amend(table)
        self.names = Names(table)
        self.loaded = True
        self.access.apply(table)
        self.quota.apply(table)
        self.endpoints.keep(table)
        self.routing.apply(table)
        self._rerouted()
        self.pace.keep(table)
        self.demand.keep(table, self.endpoints.in_flight)
        self.pool.keep(
            {
                (e.address, e.port)
                for s in table.services
                for r in s.revisions
                for e in (*r.endpoints, *r.prefill)
            }
        )
        self.activator.changed()
        return True

    def begin(self, key: Id, now: float) -> ServiceLoad:
        """A request of this service is under way."""
        load = self.demand.loads.get(key) or self.demand.of(key)
        load.area_s -= now
        load.in_flight += 1
        load.requests += 1
        self.total_in_flight += 1
        self.pace.arrived(key, now)
        return load

    def end(self, key: Id, load: ServiceLoad, now: float, *, failed: bool) -> None:
        """It ended; `load` is what `begin` gave."""
        load.area_s += now
        load.in_flight -= 1
        load.failures += failed
        self.total_in_flight -= 1
        self.pace.finished(key, now)

    def unanswered(self, service: ServiceRoute, request_id: str, message: str) -> Unavailable:
        """What a caller is told whose request no endpoint has answered."""
        drain_per_s = self.pace.drain_per_s((service.namespace, service.name), self.clock.monotonic())
        return Unavailable(
            f"no endpoint of {service.namespace}/{service.name} answered: {message}",
            code="no_endpoint_answered",
            hint="send the request again",
            retry_after_s=retry_after_s(0, drain_per_s, request_id),
        )

    def report(self, window_s: float) -> DemandReport:
        """Demand since the last report."""
        now = self.clock.monotonic()
        return DemandReport(
            gateway=self.name,
            at=self.clock.now(),
            window_s=window_s,
            table_version=self.names.table.version,
            services=self.demand.report(
                now,
                window_s,
                self.names.routes,
                self.rooms.queues(now, self.activator.queues(now)),
                self.endpoints.in_flight,
            ),
        )

    def snapshot(self) -> bytes:
        """All that this worker has counted, and what it holds now."""
        server, gossip = self.server, self.gossip
        return self.telemetry.snapshot(
            Readings(
                in_flight=self.in_flight,
                queued=self.rooms.lengths(),
                indexed=self.routing.indexed(),
                kv_events=self.routing.event_counts(),
                warmings=self.routing.warmings(),
                remote_prompts=self.routing.remote_prompts(),
                untokenized=self.prompts.untokenized,
                waiting=self.activator.waiting,
                connections=len(server.connections) if server else 0,
                table_version=self.names.table.version,
                refused=server.refused if server else {},
                endpoint_states=self._endpoint_states(),
                log_lines_dropped=self.records.lines_dropped,
                spans_dropped=self.records.spans_dropped,
                openings=self.endpoints.openings,
                gossip=gossip.exchanged if gossip is not None else Exchanged(),
                limit_faults={**self.quota.faults, **(self._peers.faults if self._peers is not None else {})},
            )
        )

    async def gather(self, kind: str, timeout_s: float, about: str = "") -> list[bytes]:
        """What the other workers answer in time."""
        return await self._peers.gather(kind, timeout_s, about) if self._peers is not None else []

    async def gather_metrics(self) -> list[bytes]:
        """The snapshots of the other workers that answer in time."""
        return await self.gather(METRICS, GATHER_S)

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

    def _held(self, key: Id, seconds: float) -> None:
        self.telemetry.held.observe(seconds, *key)

    def _find(self, service: ServiceRoute) -> ServiceRoute:
        return self.names.service(full_name(service))

    def _ready(self, endpoint: Endpoint) -> None:
        """It said so itself."""
        for service in self.names.table.services:
            if any(endpoint in revision.starting for revision in service.revisions):
                self._reroute(service, self.joined.join(service, endpoint.name))
        self.activator.changed()

    def _lost(self, name: str) -> None:
        """One that said so, and then failed a request before the table said the same."""
        logger.warning("endpoint %s said that it was ready, and failed a request: it gets no more", name)
        for service in self.names.table.services:
            if any(e.name == name for revision in service.revisions for e in revision.endpoints):
                self._reroute(service, self.joined.lose(service, name))

    def _reroute(self, before: ServiceRoute, after: ServiceRoute) -> None:
        self.names = self.names.changed(after)
        self.endpoints.regroup(before, after)
        self.routing.renew(after)
        self._rerouted()

    def _rerouted(self) -> None:
        """Services have other endpoints, profiles or routers now."""
        table = self.names.table
        self.rooms.changed(table.tenants)
        if self._tokenizers is not None:
            self._tokenizers.keep(table.services)
