"""The waiting rooms of all services that have a router: who is let in, what he is told who waits in vain, and what is counted of both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from penstock.contracts.exchange import ServiceRoute, TenantRoute
from penstock.decide.priority import HEADERS, Rank, rank_of
from penstock.decide.retry_after import retry_after_s
from penstock.gateway.call import Call
from penstock.gateway.demand import NOBODY, Demand, Id, Queue
from penstock.gateway.pace import Pace
from penstock.gateway.router import Router
from penstock.gateway.telemetry.metrics import Telemetry
from penstock.gateway.waiting_line import Ask
from penstock.gateway.waiting_room import Turn, WaitingRoom
from penstock.kit.clock import Clock
from penstock.kit.errors import PlatformError


class Rooms:
    """By service. A room is made when the first request comes, and lasts as long as the service's router."""

    def __init__(
        self,
        clock: Clock,
        routers: Mapping[Id, Router],
        demand: Demand,
        pace: Pace,
        telemetry: Telemetry,
        aside: Callable[[Id], Collection[str]],
    ) -> None:
        """`routers` are those in force, whenever one looks; `aside` are endpoints of a service that get no requests now."""
        self._clock, self._routers, self._aside = clock, routers, aside
        self._demand, self._pace, self._telemetry = demand, pace, telemetry
        self._weights: Mapping[str, float] = {}
        self._rooms: dict[Id, tuple[Router, WaitingRoom]] = {}

    def of(self, service: ServiceRoute) -> WaitingRoom | None:
        """None where requests go at once: those that are not routed by a profile, or ask for one revision by its tag."""
        if service.routing is None or service.tag:
            return None
        key = (service.namespace, service.name)
        known = self._rooms.get(key)
        return known[1] if known is not None else self._opened(key)

    def _opened(self, key: Id) -> WaitingRoom | None:
        router = self._routers.get(key)
        if router is None:
            return None
        aside, told = partial(self._aside, key), partial(self._count, *key)
        room = WaitingRoom(router, self._clock, aside=aside, told=told)
        self._rooms[key] = router, room
        return room

    def changed(self, tenants: Iterable[TenantRoute]) -> None:
        """Other routers, endpoints, profiles or tenants are in force."""
        self._weights = {tenant.name: tenant.weight for tenant in tenants if tenant.weight != 1.0}
        for key, (router, room) in list(self._rooms.items()):
            if self._routers.get(key) is router:
                room.changed()
            else:
                del self._rooms[key]
                room.close()

    def rank(self, call: Call, service: ServiceRoute, *, is_batch: bool) -> Rank:
        """How urgent a request is, and on whose account it waits."""
        headers = {name: value for name, value in reversed(call.request.head.headers) if name in HEADERS}
        return rank_of(call.key, service, self._weights, headers, is_batch=is_batch)

    async def turn(
        self,
        room: WaitingRoom,
        service: ServiceRoute,
        ask: Ask,
        rank: Rank,
        request_id: str,
        within_s: float | None,
    ) -> Turn:
        """Wait for a turn; it counts as demand meanwhile. Raises as `WaitingRoom.turn` does, and says when to come again. Needs a task."""
        key, began = (service.namespace, service.name), self._clock.monotonic()
        load, runs, failed = self._demand.of(key), False, False
        load.wait(began)
        try:
            turn = await room.turn(ask, rank, within_s)
            runs = True
            return turn
        except PlatformError as error:
            failed = True
            drain_per_s = self._pace.drain_per_s(key, self._clock.monotonic())
            error.retry_after_s = retry_after_s(room.line.ahead_of(rank.priority), drain_per_s, request_id)
            raise
        finally:
            load.leave(self._clock.monotonic(), runs=runs, failed=failed)

    def queues(self, now: float, others: Mapping[Id, Queue]) -> dict[Id, Queue]:
        """By service: how long the first has waited, here or among `others` (for a first endpoint), and for which revisions."""
        found = dict(others)
        for key, (_, room) in self._rooms.items():
            since = room.line.first_since()
            if since is not None:
                wait_s, wanted = found.get(key, NOBODY)
                found[key] = Queue(max(wait_s, now - since), wanted)
        return found

    def lengths(self) -> dict[tuple[str, str, str], int]:
        """How many wait, by service and priority, where anybody does."""
        return {
            (*key, band): count
            for key, (_, room) in self._rooms.items()
            for band, count in room.line.lengths().items()
        }

    def _count(self, namespace: str, name: str, band: str, outcome: str, waited_s: float) -> None:
        self._telemetry.turns.add(namespace, name, band, outcome)
        self._telemetry.turn_wait.observe(waited_s, namespace, name, band)
