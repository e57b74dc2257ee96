"""Through a real gateway: requests for full engines wait for their turn, in order, and are told what became of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
from gateway_world import OK, ControlPlane, Engine, Gateway, service, until
from msgspec.structs import replace

from penstock.contracts.exchange import (
    FlowRoute,
    KeyHash,
    KeyRoute,
    RevisionRoute,
    RouteTable,
    RoutingRoute,
    ServiceRoute,
)
from penstock.kit.api_keys import keyed_hash
from penstock.kit.clock import SystemClock
from plain_http import PLAIN

TOKEN = "psk-0123456789ab-" + "s" * 43
KEY = KeyRoute(
    id="0123456789ab",
    namespace="default",
    name="k",
    hashes=(KeyHash(hash=keyed_hash(bytes(32), TOKEN.encode()).hex()),),
    max_priority=9,
)


class Slow(Engine):
    """Answers when it is told to, one after the other in the order in which they came; `asked` are their users."""

    def __init__(self, name: str) -> None:
        super().__init__(name, self.wait)
        self.asked: list[str] = []
        self.answers = asyncio.Semaphore(0)

    async def wait(
        self, engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.asked.append(self.requests[-1][1].decode().split('"user":"')[1].split('"')[0])
        await self.answers.acquire()
        writer.write(OK)


def routed(*engines: Engine, slots: int = 1, **flow: Any) -> ServiceRoute:
    ends = tuple(replace(engine.endpoint, slots=slots) for engine in engines)
    revision = RevisionRoute(name="m-1", weight_percent=100, endpoints=ends)
    return service(
        revisions=(revision,), routing=RoutingRoute(flow=FlowRoute(**flow)), objectives=(("urgent", 5),)
    )


class Callers:
    """Each is known by a name. Use within `async with`."""

    def __init__(self, gateway: Gateway) -> None:
        self._client = httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30)

    async def __aenter__(self) -> Callers:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    def ask(self, name: str, **headers: str) -> asyncio.Task[httpx.Response]:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "user": name}
        content = httpx.Request("POST", "http://x", json=body).content
        headers = {**named, "content-type": "application/json"}
        return asyncio.create_task(
            self._client.post("/v1/chat/completions", content=content, headers=headers)
        )

    async def metrics(self) -> str:
        return (await self._client.get("/metrics")).text


async def slow() -> Slow:
    engine = Slow("e")
    await engine.start()
    return engine


async def queued(callers: Callers, count: int, priority: str = "0") -> None:
    labels = f'{{namespace="default",service="m",priority="{priority}"}}'
    async with asyncio.timeout(30):
        while f"penstock_gateway_requests_queued{labels} {count}\n" not in await callers.metrics():
            await asyncio.sleep(0.01)


async def test_one_slot_is_used_by_one_request_at_a_time_the_most_urgent_first(tmp_path: Path) -> None:
    engine = await slow()
    async with (
        ControlPlane(tmp_path) as control,
        Gateway(tmp_path, routed(engine)) as gateway,
        Callers(gateway) as callers,
    ):
        key = {"authorization": f"Bearer {TOKEN}"}
        await until(lambda: control.connections)
        control.send(RouteTable(version=2, services=(routed(engine),), keys=(KEY,)))
        async with asyncio.timeout(30):
            while "penstock_gateway_route_table_version 2\n" not in await callers.metrics():
                await asyncio.sleep(0.01)
        asked = [callers.ask("first")]
        await until(lambda: engine.asked)
        asked += [callers.ask("batch", x_penstock_priority="batch")]
        await queued(callers, 1, "batch")
        asked += [callers.ask("plain", x_llm_d_inference_objective="urgent")]
        await queued(callers, 1)
        asked += [callers.ask("urgent", x_llm_d_inference_objective="urgent", **key)]
        await queued(callers, 1, "5")
        asked += [callers.ask("most", x_penstock_priority="1000", **key)]
        await queued(callers, 1, "9")
        assert len(engine.requests) == 1
        for _ in asked:
            engine.answers.release()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        assert engine.asked == ["first", "most", "urgent", "plain", "batch"]
        assert 'priority="9",outcome="let_through"} 1' in await callers.metrics()


async def test_who_finds_no_place_or_no_time_is_told_so_and_when_to_come_again(tmp_path: Path) -> None:
    engine = await slow()
    async with (
        Gateway(tmp_path, routed(engine, max_requests=2, ttl_s=4.0), clock=SystemClock()) as gateway,
        Callers(gateway) as callers,
    ):
        first = callers.ask("first")
        await until(lambda: engine.asked)
        waits = callers.ask("waits")
        hurries = callers.ask("hurries", x_request_timeout_ms="2000")
        await queued(callers, 2)
        refused = await callers.ask("refused")
        told = [(refused, 429, "priority_full", "rejected-saturated")]
        told += [
            (await hurries, 503, "deadline_passed", "rejected-ttl-expired"),
            (await waits, 429, "waited_too_long", "rejected-ttl-expired"),
        ]
        for answer, status, code, reason in told:
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            assert answer.headers["x-llm-d-request-dropped-reason"] == reason
            assert int(answer.headers["retry-after"]) >= 1
        assert "no endpoint had room" in (await waits).json()["error"]["message"]
        engine.answers.release()
        assert (await first).status_code == 200
        assert engine.asked == ["first"]


async def test_who_goes_away_while_waiting_never_reaches_an_engine(tmp_path: Path) -> None:
    engine = await slow()
    async with Gateway(tmp_path, routed(engine)) as gateway, Callers(gateway) as callers:
        first = callers.ask("first")
        await until(lambda: engine.asked)
        gone, stays = callers.ask("gone"), callers.ask("stays")
        await queued(callers, 2)
        gone.cancel()
        await queued(callers, 1)
        engine.answers.release()
        engine.answers.release()
        assert {(await task).status_code for task in (first, stays)} == {200}
        assert engine.asked == ["first", "stays"]


async def test_sixty_share_three_slots_and_all_are_answered(tmp_path: Path) -> None:
    engine = await slow()
    async with Gateway(tmp_path, routed(engine, slots=3)) as gateway, Callers(gateway) as callers:
        asked = [callers.ask(str(number)) for number in range(60)]
        most = 0
        for number in range(60):
            await until(lambda number=number: len(engine.asked) > number)
            most = max(most, len(engine.asked) - number)
            engine.answers.release()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        assert most <= 3


async def test_who_waits_when_the_endpoint_goes_wakes_the_service_and_is_answered_by_the_next(
    tmp_path: Path,
) -> None:
    engine, other = await slow(), await slow()
    other.name = "other"
    async with (
        ControlPlane(tmp_path) as control,
        Gateway(tmp_path, routed(engine)) as gateway,
        Callers(gateway) as callers,
    ):
        await until(lambda: control.connections)
        first = callers.ask("first")
        await until(lambda: engine.asked)
        waits = callers.ask("waits")
        await queued(callers, 1)
        asleep = replace(routed(), phase="Sleeping")
        control.send(RouteTable(version=2, services=(asleep,)))
        await until(lambda: any(s.wake for report in control.reports for s in report.services))
        control.send(RouteTable(version=3, services=(routed(other),)))
        await until(lambda: other.asked)
        other.answers.release()
        engine.answers.release()
        assert {(await task).status_code for task in (first, waits)} == {200}
        assert other.asked == ["waits"]
