"""Who waits for a service that starts is served as soon as its engine says so itself, whatever the table says by then."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from gateway_world import OK, ControlPlane, Engine, Gateway, service, until
from msgspec.structs import replace

from penstock.contracts.exchange import RevisionRoute, RouteTable, ServiceRoute
from penstock.gateway import probes
from penstock.kit.clock import SystemClock

NOT_YET = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


class Warming(Engine):
    """Says at /ready whether it is; `ready_at` is when it was asked first after that."""

    def __init__(self, name: str = "e") -> None:
        super().__init__(name, self._answer)
        self.is_ready = False
        self.probed = 0
        self.served: list[float] = []

    async def _answer(
        self, engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if head.startswith(b"GET /ready "):
            self.probed += 1
            writer.write(OK if self.is_ready else NOT_YET)
        else:
            self.served.append(now())
            writer.write(OK)


async def warming(name: str = "e") -> Warming:
    engine = Warming(name)
    await engine.start()
    return engine


def starting(*engines: Engine, path: str = "/ready", **fields: object) -> ServiceRoute:
    found = tuple(replace(engine.endpoint, probe_path=path) for engine in engines)
    revision = RevisionRoute(name="m-1", weight_percent=100, starting=found)
    return service(phase="Starting", message="its pods are starting", revisions=(revision,), **fields)


def now() -> float:
    """By the loop in which all of them live, so that no pause of the machine counts."""
    return asyncio.get_running_loop().time()


async def ask(gateway: Gateway, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, verify=False, timeout=30) as client:
        return await client.post("/v1/chat/completions", json={"model": "m"}, headers=headers)


async def test_held_requests_go_within_50_ms_of_the_first_ready_answer(tmp_path: Path) -> None:
    engine = await warming()
    async with Gateway(tmp_path, starting(engine)) as gateway:
        asking = [asyncio.create_task(ask(gateway)) for _ in range(20)]
        await until(lambda: engine.probed > 3)
        assert not engine.served
        engine.is_ready, began = True, now()
        answers = await asyncio.gather(*asking)
        assert {a.status_code for a in answers} == {200}
        assert engine.served[0] - began < 0.25, "20 ms between probes; the rest is for a busy machine"
        probed = engine.probed
        assert (await ask(gateway)).status_code == 200, "it takes part from now on"
        await asyncio.sleep(0.1)
        assert engine.probed == probed, "nobody waits, so nobody is asked"


async def test_nobody_is_asked_before_somebody_waits_nor_after_he_has_gone(tmp_path: Path) -> None:
    engine = await warming()
    async with Gateway(tmp_path, starting(engine, hold_s=1.0)) as gateway:
        await asyncio.sleep(0.1)
        assert engine.probed == 0
        assert (await ask(gateway)).status_code == 503
        probed = engine.probed
        assert 2 <= probed <= 52, "every 20 ms"
        await asyncio.sleep(0.1)
        assert engine.probed == probed


async def test_without_a_path_taking_a_connection_is_readiness(tmp_path: Path) -> None:
    engine = await warming()
    port = engine.port
    await engine.stop()
    async with Gateway(tmp_path, starting(engine, path="")) as gateway:
        asking = asyncio.create_task(ask(gateway))
        await asyncio.sleep(0.1)
        assert not asking.done()
        engine._server = await asyncio.start_server(engine._accept, "127.0.0.1", port)
        assert (await asking).status_code == 200


async def test_an_engine_that_takes_connections_and_does_not_answer_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "TIMEOUT_S", 0.05)

    async def stare(
        engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if engine.connections < 4:
            await asyncio.sleep(1)
        writer.write(OK)

    engine = Engine("e", stare)
    await engine.start()
    async with Gateway(tmp_path, starting(engine)) as gateway:
        assert (await ask(gateway)).status_code == 200
    assert engine.connections >= 5


@pytest.mark.parametrize("garbage", [b"no http at all\r\n\r\n", b"HTTP/1.1 2\r\n\r\n", b"x" * 9000, b""])
async def test_what_is_no_http_is_not_ready(tmp_path: Path, garbage: bytes) -> None:
    async def babble(
        engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(garbage)
        writer.close()

    engine = Engine("e", babble)
    await engine.start()
    async with Gateway(tmp_path, starting(engine, hold_s=0.2)) as gateway:
        assert (await ask(gateway)).status_code == 503
    assert engine.connections


async def test_the_endpoint_takes_part_until_the_table_says_otherwise(tmp_path: Path) -> None:
    engine, other = await warming(), await warming("other")
    engine.is_ready = True
    start = starting(engine)
    async with ControlPlane(tmp_path) as control, Gateway(tmp_path, start) as gateway:
        assert (await ask(gateway)).headers["x-penstock-endpoint"] == "e"
        await until(lambda: control.connections)
        probed = engine.probed
        control.send(RouteTable(version=2, services=(start,)))
        await until(lambda: control.reports and control.reports[-1].table_version == 2)
        assert (await ask(gateway)).headers["x-penstock-endpoint"] == "e", "the table lags, the engine serves"
        assert engine.probed == probed
        control.send(RouteTable(version=3, services=(service(engine),)))
        await until(lambda: control.reports[-1].table_version == 3)
        assert (await ask(gateway)).headers["x-penstock-endpoint"] == "e"
        control.send(RouteTable(version=4, services=(starting(other),)))
        await until(lambda: control.reports[-1].table_version == 4)
        asking = asyncio.create_task(ask(gateway))
        await until(lambda: other.probed)
        other.is_ready = True
        assert (await asking).headers["x-penstock-endpoint"] == "other", (
            "who is gone from the table gets nothing"
        )


async def test_an_endpoint_that_fails_before_the_table_knew_it_is_asked_again(tmp_path: Path) -> None:
    engine = await warming()
    engine.is_ready = True
    async with Gateway(tmp_path, starting(engine)) as gateway:
        assert (await ask(gateway)).status_code == 200
        await engine.stop()
        assert (await ask(gateway)).status_code == 503, "the one that found out"
        asking = asyncio.create_task(ask(gateway))
        await asyncio.sleep(0.1)
        assert not asking.done(), "the next waits, as for any that starts"
        engine._server = await asyncio.start_server(engine._accept, "127.0.0.1", engine.port)
        assert (await asking).status_code == 200


async def test_a_later_pod_joins_others_that_serve_only_by_the_table(tmp_path: Path) -> None:
    serving, later = await warming("serving"), await warming("later")
    later.is_ready = True
    revision = RevisionRoute(
        name="m-1", weight_percent=100, endpoints=(serving.endpoint,), starting=(later.endpoint,)
    )
    async with Gateway(tmp_path, service(revisions=(revision,))) as gateway:
        assert {(await ask(gateway)).headers["x-penstock-endpoint"] for _ in range(10)} == {"serving"}
    assert later.connections == 0


@pytest.mark.parametrize(
    ("phase", "code"),
    [
        ("placing", "not_placed_in_time"),
        ("downloading", "not_downloaded_in_time"),
        ("loading", "not_loaded_in_time"),
        ("warming", "not_warm_in_time"),
        ("", "not_ready_in_time"),
    ],
)
async def test_who_waits_in_vain_is_told_in_which_phase_time_ran_out_and_when_to_come_again(
    tmp_path: Path, phase: str, code: str
) -> None:
    route = starting(hold_s=0.1, start_phase=phase, start_expected_s=60.0)
    async with Gateway(tmp_path, route, clock=SystemClock()) as gateway:
        answer = await ask(gateway)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, code)
    assert not phase or f"it was still {phase} (its pods are starting)" in error["message"]
    assert 60 <= int(answer.headers["retry-after"]) <= 75, "60 s less what has passed, spread by a quarter"


async def test_a_caller_whose_own_deadline_is_shorter_is_answered_then(tmp_path: Path) -> None:
    async with Gateway(tmp_path, starting(), clock=SystemClock()) as gateway:
        began = now()
        answer = await ask(gateway, **{"x-request-timeout-ms": "200"})
        took_s = now() - began
    assert answer.json()["error"]["code"] == "not_ready_in_time"
    assert 0.2 <= took_s < 20


async def test_a_callers_deadline_counts_the_wait_and_the_services_timeout_does_not(tmp_path: Path) -> None:
    async def slow(
        engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await asyncio.sleep(0 if head.startswith(b"GET") else 3)
        writer.write(OK)

    engine = Engine("e", slow)
    await engine.start()
    table = RouteTable(version=2, services=(service(engine, timeout_s=4),))
    async with (
        ControlPlane(tmp_path) as control,
        Gateway(tmp_path, starting(timeout_s=4), clock=SystemClock()) as gateway,
    ):
        await until(lambda: control.connections)
        hurried = asyncio.create_task(ask(gateway, **{"x-request-timeout-ms": "3500"}))
        patient = asyncio.create_task(ask(gateway))
        await asyncio.sleep(1.5)
        control.send(table)
        assert (await hurried).json()["error"]["code"] == "upstream_timeout"
        assert (await patient).status_code == 200
