"""Every service with a router has a waiting room, whose demand is counted, and whose refusals say when to come again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace
from waiting_world import ANYBODY, World, endpoint, service, settle

from penstock.contracts.exchange import KeyRoute, ServiceRoute, TenantRoute
from penstock.contracts.scheduling import Prompt
from penstock.decide.priority import FAIRNESS_ID, LEAST, PRIORITY, Rank
from penstock.gateway.call import Call
from penstock.gateway.demand import Demand, Id, Queue
from penstock.gateway.pace import Pace
from penstock.gateway.rooms import Rooms
from penstock.gateway.router import Router
from penstock.gateway.telemetry.metrics import Readings, Telemetry, total
from penstock.gateway.waiting_room import Turn, WaitingRoom
from penstock.kit.clock import SystemClock
from penstock.kit.errors import Exhausted

pytestmark = pytest.mark.looptime
KEY = ("default", "m")
ROUTE = service(endpoint("a"), ttl_s=5.0)


class Known:
    """One service and its rooms."""

    def __init__(self) -> None:
        self.routers: dict[Id, Router] = {KEY: World(ROUTE).router}
        self.demand, self.pace, self.telemetry = Demand(), Pace(), Telemetry()
        self.rooms = Rooms(
            SystemClock(), self.routers, self.demand, self.pace, self.telemetry, lambda key: ()
        )
        self.routers[KEY].loads["a"].in_flight = 1

    @property
    def room(self) -> WaitingRoom:
        room = self.rooms.of(ROUTE)
        assert room is not None
        return room

    async def turn(self, rank: Rank = ANYBODY) -> Turn:
        room = self.room
        ask = room.ask(Prompt(draw=1, tokens=10), {}, 10)
        return await self.rooms.turn(room, ROUTE, ask, rank, "id", None)


@pytest.mark.parametrize(
    "route", [replace(ROUTE, routing=None), replace(ROUTE, tag="blue"), replace(ROUTE, name="other")]
)
async def test_who_is_not_routed_by_a_profile_does_not_wait(route: ServiceRoute) -> None:
    assert Known().rooms.of(route) is None


async def test_a_room_is_the_same_until_its_router_is_another_and_then_nobody_is_left_in_it() -> None:
    known = Known()
    before = known.room
    assert known.room is before
    waits = asyncio.create_task(known.turn())
    await settle()
    known.routers[KEY] = World(ROUTE).router
    known.rooms.changed(())
    await settle()
    assert waits.done()
    assert known.room is not before
    del known.routers[KEY]
    known.rooms.changed(())
    assert known.rooms.of(ROUTE) is None


async def test_who_waits_is_demand_and_is_counted_by_priority() -> None:
    known = Known()
    waiting = [asyncio.create_task(known.turn(Rank(priority, "a"))) for priority in (0, 0, LEAST)]
    await asyncio.sleep(2)
    load = known.demand.loads[KEY]
    assert (load.waiting, load.requests) == (3, 3)
    assert known.rooms.lengths() == {(*KEY, "0"): 2, (*KEY, "batch"): 1}
    others = {KEY: Queue(1.0, frozenset("r")), ("x", "y"): Queue(3.0, frozenset())}
    assert known.rooms.queues(2.0, others) == {
        KEY: Queue(2.0, frozenset("r")),
        ("x", "y"): Queue(3.0, frozenset()),
    }
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (load.waiting, known.rooms.lengths()) == (0, {})
    text = total(known.telemetry.snapshot(Readings(queued={(*KEY, "0"): 2})))
    assert (
        'penstock_gateway_turns_total{namespace="default",service="m",priority="0",outcome="cancelled"} 2'
        in text
    )
    assert (
        'penstock_gateway_turn_wait_seconds_count{namespace="default",service="m",priority="batch"} 1' in text
    )
    assert 'penstock_gateway_requests_queued{namespace="default",service="m",priority="0"} 2' in text


async def test_a_refusal_says_when_those_before_will_have_gone_at_the_pace_of_late() -> None:
    known = Known()
    for _ in range(200):
        await asyncio.sleep(0.1)
        known.pace.arrived(KEY, asyncio.get_running_loop().time())
        known.pace.finished(KEY, asyncio.get_running_loop().time())
    waiting = [asyncio.create_task(known.turn()) for _ in range(40)]
    urgent = asyncio.create_task(known.turn(Rank(1, "b")))
    await settle()
    drain_per_s = known.pace.drain_per_s(KEY, asyncio.get_running_loop().time() + 5)
    found = await asyncio.gather(*waiting, urgent, return_exceptions=True)
    refusals = [error for error in found if isinstance(error, Exhausted)]
    assert len(refusals) == 41
    *others, last = (error.retry_after_s or 0.0 for error in refusals)
    assert max(others) * drain_per_s == pytest.approx(45, rel=0.3), (
        "after the other 39, perhaps the urgent one"
    )
    assert last < max(others) / 10, "nobody goes before the urgent one"


async def test_tenants_weigh_what_the_table_says() -> None:
    known = Known()
    known.rooms.changed((TenantRoute(name="acme", weight=4.0), TenantRoute(name="small")))
    headers = [(PRIORITY, b"-2"), (PRIORITY, b"9"), (FAIRNESS_ID, b"ann"), (b"host", b"x")]
    key = KeyRoute(id="k", namespace="n", name="k", tenant="acme", fairness_ids=True)

    def rank(key: KeyRoute | None) -> Rank:
        call: Any = SimpleNamespace(key=key, request=SimpleNamespace(head=SimpleNamespace(headers=headers)))
        return known.rooms.rank(cast("Call", call), ROUTE, is_batch=False)

    assert rank(key) == Rank(-2, "tenant acme ann", 4.0)
    assert rank(replace(key, tenant="small")).weight == 1.0
    assert rank(None) == Rank(-2, "")
