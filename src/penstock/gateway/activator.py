"""The waiting room of services without a ready endpoint: bounded, with a deadline that names the phase in which time ran out.

Whoever comes first wakes the service, and its starting endpoints are asked whether they are ready for as long as anybody waits. Those
who wait are let go in the order in which they came, some at a time, so that an engine that has just started can take their connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from penstock.contracts.exchange import Endpoint, ServiceRoute, StartPhase
from penstock.decide.admission import is_settled
from penstock.decide.retry_after import start_left_s
from penstock.decide.revision_share import has_endpoint
from penstock.gateway.demand import NOBODY, Demand, Id, Queue
from penstock.kit.clock import Clock
from penstock.kit.errors import NotFound, Unavailable

MAX_WAITING = 10_000
"""Requests that may wait for one service in one worker, as many as with Knative. Each costs 10 KB with its connection, and its body."""
AT_ONCE = 16
"""Requests that are let go together."""
BETWEEN_S = 0.001
LATE: dict[StartPhase, str] = {
    "": "not_ready_in_time",
    "placing": "not_placed_in_time",
    "downloading": "not_downloaded_in_time",
    "loading": "not_loaded_in_time",
    "warming": "not_warm_in_time",
}
"""Codes of waits that ended in vain, by the phase that was under way."""


Key = tuple[str, str, str]


@dataclass(slots=True)
class _Room:
    """Those who wait for one service, by when they came; empty while nobody does. It is there until the service is settled.

    `service` is what the table says of it, `since` when the first came.
    """

    service: ServiceRoute
    since: float
    waiters: dict[asyncio.Future[None], float] = field(default_factory=dict)
    opening: asyncio.TimerHandle | None = None


class Activator:
    """Requests wait here until the RouteTable, or an endpoint itself, says what becomes of their service."""

    def __init__(
        self,
        clock: Clock,
        demand: Demand,
        find: Callable[[ServiceRoute], ServiceRoute],
        *,
        wake: Callable[[], None],
        probe: Callable[[Iterable[Endpoint]], None],
        held: Callable[[Id, float], None] = lambda key, seconds: None,
    ) -> None:
        """`wake` is called when the first begins to wait for a service; `probe` is told all endpoints that somebody waits for, and `held` how
        long each has waited.

        `find` gives a service as the table in force has it, and raises NotFound if it is gone.
        """
        self._clock, self._demand = clock, demand
        self._find, self._wake, self._probe, self._held = find, wake, probe, held
        self._rooms: dict[Key, _Room] = {}

    @property
    def waiting(self) -> dict[Id, int]:
        """Requests that wait, by service, where there are any."""
        return {key: load.waiting for key, load in self._demand.loads.items() if load.waiting}

    def waiting_for(self, key: Id) -> int:
        """Requests that wait for this service."""
        load = self._demand.loads.get(key)
        return load.waiting if load is not None else 0

    def queues(self, now: float) -> dict[Id, Queue]:
        """By service: how long the first has waited, and for which revisions."""
        found: dict[Id, Queue] = {}
        for (namespace, name, _), room in self._rooms.items():
            if room.waiters:
                wait_s, wanted = found.get((namespace, name), NOBODY)
                first = next(iter(room.waiters.values()))
                here = {r.name for r in room.service.revisions if r.weight_percent > 0 and not r.endpoints}
                found[namespace, name] = Queue(max(wait_s, now - first), wanted | here)
        return found

    def start_left_s(self, service: ServiceRoute) -> float:
        """How much longer its start should take."""
        room = self._rooms.get(_key(service))
        passed_s = self._clock.monotonic() - room.since if room is not None else 0.0
        return start_left_s(service.start_expected_s, passed_s)

    def changed(self) -> None:
        """A new RouteTable is in force, or an endpoint has joined."""
        for key, room in list(self._rooms.items()):
            try:
                room.service = self._find(room.service)
            except NotFound:
                self._close(key, room)
                continue
            if is_settled(room.service) and room.opening is None:
                self._let_go(key, room)
        self._tell()

    async def wait(self, service: ServiceRoute, within_s: float) -> ServiceRoute:
        """The service once it is settled. Raises NotFound when it goes meanwhile, Unavailable when `within_s` has passed."""
        service = self._find(service)
        if is_settled(service):
            return service
        key, load, began = _key(service), self._demand.of(_id(service)), self._clock.monotonic()
        load.wait(began)
        runs = failed = False
        try:
            async with asyncio.timeout(within_s):
                while not is_settled(service):
                    await self._turn(key, service)
                    service = self._find(service)
            runs = has_endpoint(service)
            failed = not runs
        except TimeoutError:
            failed = True
            room = self._rooms.get(key)
            raise self._late(room.service if room is not None else service, within_s) from None
        except NotFound:
            failed = True
            raise NotFound(
                f"{service.namespace}/{service.name} was deleted while the request waited for it to start",
                code="model_not_found",
                hint="see /v1/models for what is served",
            ) from None
        finally:
            now = self._clock.monotonic()
            load.leave(now, runs=runs, failed=failed)
            self._held(_id(service), now - began)
        return service

    async def _turn(self, key: Key, service: ServiceRoute) -> None:
        """Until it is this one's turn to look at the service again."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = _Room(service, self._clock.monotonic())
        is_first = not room.waiters
        room.waiters[future] = self._clock.monotonic()
        if is_first:
            self._wake()
            self._tell()
        try:
            await future
        finally:
            if room.waiters.pop(future, None) is not None and not room.waiters:
                self._tell()

    def _let_go(self, key: Key, room: _Room) -> None:
        """The first of those who wait, and soon the next; unless the service has lost its endpoint again meanwhile."""
        room.opening = None
        if not is_settled(room.service):
            return
        for future in tuple(islice(room.waiters, AT_ONCE)):
            del room.waiters[future]
            if not future.done():
                future.set_result(None)
        if room.waiters:
            loop = asyncio.get_running_loop()
            room.opening = loop.call_later(BETWEEN_S, self._let_go, key, room)
        else:
            del self._rooms[key]

    def _close(self, key: Key, room: _Room) -> None:
        """The service is gone."""
        del self._rooms[key]
        if room.opening is not None:
            room.opening.cancel()
        for future in room.waiters:
            if not future.done():
                future.set_result(None)
        room.waiters.clear()

    def _tell(self) -> None:
        """Who is to be asked, for as long as somebody waits."""
        rooms = [room for room in self._rooms.values() if room.waiters]
        self._probe(
            [e for room in rooms for r in room.service.revisions if r.weight_percent > 0 for e in r.starting]
        )

    def _late(self, service: ServiceRoute, within_s: float) -> Unavailable:
        phase, message = service.start_phase, service.message or service.phase
        still = f"it was still {phase} ({message})" if phase else message
        return Unavailable(
            f"{service.namespace}/{service.name} did not become ready within {within_s:g} s: {still}",
            code=LATE[phase],
            hint="try again later",
            retry_after_s=self.start_left_s(service),
        )


def _id(service: ServiceRoute) -> Id:
    return service.namespace, service.name


def _key(service: ServiceRoute) -> Key:
    return service.namespace, service.name, service.tag
