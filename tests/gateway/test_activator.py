"""Requests for a service that has no endpoint yet: they wake it, wait, and each gets an answer that says what came of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_world import ControlPlane, Engine, Gateway, post, service, until
from msgspec.structs import replace

from penstock.contracts.exchange import Endpoint, RevisionRoute, RouteTable, ServiceRoute
from penstock.gateway import admit, feed
from penstock.gateway.activator import AT_ONCE, Activator
from penstock.gateway.demand import Demand
from penstock.kit.clock import SystemClock
from penstock.kit.errors import NotFound, Unavailable

STARTING = service(phase="Starting", message="its pods are starting", revisions=())
ASLEEP = service(phase="Sleeping", revisions=())
KEY = ("default", "m")


@pytest.fixture(autouse=True)
def reports_are_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "REPORT_EVERY_S", 0.02)


async def started(name: str = "e") -> Engine:
    engine = Engine(name)
    await engine.start()
    return engine


async def ask(gateway: Gateway, path: str = "/v1/chat/completions", model: str = "m") -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, verify=False, timeout=30) as client:
        return await client.post(path, json={"model": model})


def waiting(control: ControlPlane) -> int:
    """As the last report says."""
    return sum(s.waiting for s in control.reports[-1].services) if control.reports else 0


async def counted(gateway: Gateway, name: str, reason: str) -> float:
    text = (await gateway.raw(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).decode()
    found = re.search(rf'^penstock_gateway_{name}{{reason="{reason}"}} (\S+)$', text, re.MULTILINE)
    assert found, text
    return float(found[1])


def error_of(answer: httpx.Response) -> dict[str, Any]:
    return dict(answer.json()["error"])


@pytest.mark.parametrize("without_endpoint", [STARTING, ASLEEP], ids=["starting", "asleep"])
async def test_a_request_wakes_the_service_at_once_and_is_answered_as_soon_as_an_endpoint_is_there(
    tmp_path: Path, without_endpoint: ServiceRoute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "REPORT_EVERY_S", 60)
    engine = await started()
    async with ControlPlane(tmp_path) as control, Gateway(tmp_path, without_endpoint) as gateway:
        await until(lambda: control.connections)
        asking = asyncio.create_task(ask(gateway))
        await until(lambda: control.reports)
        assert [(s.name, s.wake, s.waiting) for s in control.reports[0].services] == [("m", True, 1)]
        await asyncio.sleep(0.05)
        assert not asking.done()
        told = time.monotonic()
        control.send(RouteTable(version=2, services=(service(engine),)))
        answer = await asking
        assert time.monotonic() - told < 20
        assert (answer.status_code, answer.headers["x-penstock-endpoint"]) == (200, "e")


async def test_all_that_wait_are_answered_and_a_table_that_changes_something_else_lets_them_wait_on(
    tmp_path: Path,
) -> None:
    engine = await started()
    async with ControlPlane(tmp_path) as control, Gateway(tmp_path, STARTING) as gateway:
        asking = [asyncio.create_task(ask(gateway)) for _ in range(40)]
        await until(lambda: waiting(control) == 40)
        control.send(RouteTable(version=2, services=(STARTING, service(engine, name="other"))))
        assert (await ask(gateway, model="other")).status_code == 200
        assert not any(task.done() for task in asking)
        control.send(RouteTable(version=3, services=(service(engine),)))
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
        assert len(engine.requests) == 41
        await until(lambda: waiting(control) == 0)


async def test_the_waiting_room_is_bounded_and_who_finds_it_full_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admit, "MAX_WAITING", 3)
    engine = await started()
    async with ControlPlane(tmp_path) as control, Gateway(tmp_path, STARTING) as gateway:
        asking = [asyncio.create_task(ask(gateway)) for _ in range(5)]
        await until(lambda: sum(task.done() for task in asking) == 2)
        refused = [task.result() for task in asking if task.done()]
        assert {(a.status_code, error_of(a)["code"]) for a in refused} == {(429, "queue_full")}
        assert "3 requests already wait for default/m" in error_of(refused[0])["message"]
        assert int(refused[0].headers["retry-after"]) >= 1
        assert await counted(gateway, "refused_total", "queue_full") == 2
        control.send(RouteTable(version=2, services=(service(engine),)))
        answers = await asyncio.gather(*asking)
        assert [a.status_code for a in answers].count(200) == 3, "those that had their place keep it"


@pytest.mark.parametrize(
    ("then", "status", "code", "message"),
    [
        ((), 404, "model_not_found", "default/m was deleted while the request waited"),
        (
            (service(phase="Failed", message="no such folder", revisions=()),),
            503,
            "failed",
            "default/m cannot serve: no such folder",
        ),
        (
            (service(phase="Sleeping", message="the service is stopped", revisions=(), wakes=False),),
            503,
            "stopped",
            "default/m does not serve: the service is stopped",
        ),
    ],
    ids=["deleted", "failed", "stopped"],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/serving/default/m/v1/chat/completions"])
async def test_who_waits_in_vain_is_told_why_at_once(
    tmp_path: Path, then: tuple[ServiceRoute, ...], status: int, code: str, message: str, path: str
) -> None:
    async with ControlPlane(tmp_path) as control, Gateway(tmp_path, STARTING) as gateway:
        asking = asyncio.create_task(ask(gateway, path))
        await until(lambda: waiting(control) == 1)
        control.send(RouteTable(version=2, services=then))
        answer = await asking
        assert (answer.status_code, error_of(answer)["code"]) == (status, code)
        assert message in error_of(answer)["message"]


async def test_a_client_that_goes_away_while_it_waits_is_forgotten(tmp_path: Path) -> None:
    engine = await started()
    async with ControlPlane(tmp_path) as control, Gateway(tmp_path, STARTING) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(post())
        await until(lambda: waiting(control) == 1)
        writer.close()
        await until(lambda: waiting(control) == 0)
        control.send(RouteTable(version=2, services=(service(engine),)))
        assert (await ask(gateway)).status_code == 200
        assert len(engine.requests) == 1, "the engine never hears of the request that was given up"


async def test_the_deadline_names_the_phase_in_force_and_the_waiting_room_is_empty_again(
    tmp_path: Path,
) -> None:
    starting = service(phase="Starting", message="the model is copied", revisions=(), hold_s=2.0)
    async with ControlPlane(tmp_path) as control, Gateway(tmp_path, ASLEEP) as gateway:
        await until(lambda: control.reports)
        control.send(RouteTable(version=2, services=(service(phase="Sleeping", revisions=(), hold_s=2.0),)))
        await until(lambda: control.reports[-1].table_version == 2)
        asking = asyncio.create_task(ask(gateway))
        await until(lambda: waiting(control) == 1)
        control.send(RouteTable(version=3, services=(starting,)))
        answer = await asking
        assert (answer.status_code, error_of(answer)["code"]) == (503, "not_ready_in_time")
        assert "within 2 s: the model is copied" in error_of(answer)["message"]
        assert 5 <= int(answer.headers["retry-after"]) <= 7
        await until(lambda: waiting(control) == 0)


class Room:
    """An activator over one service, whose table is an attribute."""

    def __init__(self, now: ServiceRoute = STARTING) -> None:
        self.wakes = 0
        self.service: ServiceRoute | None = now
        self.asked: list[str] = []
        clock = SystemClock()
        self.activator = Activator(clock, Demand(), self.find, wake=self._wake, probe=self._probe)

    def _wake(self) -> None:
        self.wakes += 1

    def _probe(self, endpoints: Iterable[Endpoint]) -> None:
        self.asked = sorted(endpoint.name for endpoint in endpoints)

    def find(self, service: ServiceRoute) -> ServiceRoute:
        if self.service is None:
            raise NotFound("gone")
        return self.service

    async def wait(self) -> ServiceRoute:
        assert self.service is not None
        return await self.activator.wait(self.service, self.service.hold_s)

    def now(self, service: ServiceRoute | None) -> None:
        self.service = service
        self.activator.changed()


READY = service(
    revisions=(
        RevisionRoute(
            name="m-1", weight_percent=100, endpoints=(Endpoint(name="e", address="127.0.0.1", port=1),)
        ),
    )
)


async def test_a_thousand_wake_once_and_a_later_one_wakes_again() -> None:
    room = Room()
    crowd = [asyncio.create_task(room.wait()) for _ in range(1000)]
    await asyncio.sleep(0)
    assert (room.wakes, room.activator.waiting) == (1, {KEY: 1000})
    room.now(READY)
    assert {s.phase for s in await asyncio.gather(*crowd)} == {"Ready"}
    assert room.activator.waiting == {}
    room.now(STARTING)
    late = asyncio.create_task(room.wait())
    await asyncio.sleep(0)
    assert room.wakes == 2
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    assert room.activator.waiting == {}


async def test_news_that_come_twice_before_anyone_looks_are_seen_as_they_stand_last() -> None:
    room = Room()
    one = asyncio.create_task(room.wait())
    await asyncio.sleep(0)
    room.now(READY)
    room.now(STARTING)
    await asyncio.sleep(0.01)
    assert not one.done()
    room.now(None)
    with pytest.raises(NotFound):
        await one
    assert room.activator.waiting == {}


@pytest.mark.looptime
async def test_the_wait_ends_at_hold_s_and_not_before_however_often_the_table_changes() -> None:
    room = Room()
    loop = asyncio.get_running_loop()
    began = loop.time()
    one = asyncio.create_task(room.wait())
    for _ in range(11):
        await asyncio.sleep(10)
        room.now(STARTING)
    assert not one.done()
    with pytest.raises(Unavailable, match="within 120 s: its pods are starting"):
        await one
    assert loop.time() - began == pytest.approx(120)


@pytest.mark.looptime
async def test_a_crowd_is_let_go_in_the_order_in_which_it_came_some_at_a_time() -> None:
    room, order = Room(), []
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        await room.wait()
        order.append((number, loop.time()))

    crowd = [asyncio.create_task(one(number)) for number in range(1000)]
    await asyncio.sleep(1)
    began = loop.time()
    room.now(READY)
    await asyncio.gather(*crowd)
    assert [number for number, _ in order] == list(range(1000))
    assert max(Counter(at for _, at in order).values()) == AT_ONCE
    assert order[0][1] == began
    assert order[-1][1] - began < 0.1


@pytest.mark.looptime
async def test_who_was_not_let_go_yet_waits_on_when_the_endpoint_goes_again() -> None:
    room = Room()
    crowd = [asyncio.create_task(room.wait()) for _ in range(1000)]
    await asyncio.sleep(1)
    room.now(READY)
    await asyncio.sleep(0.005)
    served = sum(task.done() for task in crowd)
    assert 0 < served < 1000
    room.now(STARTING)
    await asyncio.sleep(10)
    assert sum(task.done() for task in crowd) == served
    assert room.activator.waiting == {KEY: 1000 - served}
    room.now(READY)
    await asyncio.gather(*crowd)
    assert room.activator.waiting == {}


@pytest.mark.looptime
async def test_endpoints_that_start_are_asked_for_as_long_as_somebody_waits() -> None:
    starting = Endpoint(name="e", address="127.0.0.1", port=1)
    revisions = (
        RevisionRoute(name="m-1", weight_percent=100, starting=(starting,)),
        RevisionRoute(name="m-0", weight_percent=0, starting=(replace(starting, name="other"),)),
    )
    room = Room(replace(STARTING, revisions=revisions))
    assert room.asked == []
    one, two = asyncio.create_task(room.wait()), asyncio.create_task(room.wait())
    await asyncio.sleep(0)
    assert room.asked == ["e"], "of revisions with a share"
    one.cancel()
    await asyncio.sleep(0.1)
    assert room.asked == ["e"]
    two.cancel()
    await asyncio.sleep(0.1)
    assert room.asked == []


@pytest.mark.looptime
async def test_what_is_left_of_a_start_counts_from_the_first_who_waited_for_it() -> None:
    route = replace(STARTING, start_expected_s=60.0, start_phase="loading", hold_s=10.0)
    room = Room(route)
    for left_s in (50.0, 40.0, 30.0, 20.0, 10.0, 5.0, 5.0):
        with pytest.raises(Unavailable) as refused:
            await room.wait()
        assert refused.value.code == "not_loaded_in_time"
        assert refused.value.retry_after_s == pytest.approx(left_s)
    room.now(READY)
    room.now(route)
    with pytest.raises(Unavailable) as refused:
        await room.wait()
    assert refused.value.retry_after_s == pytest.approx(50.0), "another start"
