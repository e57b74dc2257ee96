"""Requests that wait, in a gateway of its own process that ends or is flooded: each has one end, and none reaches an engine twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest
from gateway_process import Process, started
from gateway_world import ControlPlane, Engine, service, until

from penstock.contracts.exchange import RouteTable

STARTING = service(phase="Starting", message="its pods are starting", revisions=())


async def ask(process: Process, name: str) -> tuple[int, dict[str, object]]:
    """Status and body; (0, {}) where the connection ended without an answer."""
    body = b'{"model":"m"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Request-Id: %b\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (name.encode(), len(body), body)
    )
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await reader.read()
    writer.close()
    if not answer:
        return 0, {}
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(content)


def waiting(control: ControlPlane) -> int:
    return sum(s.waiting for s in control.reports[-1].services) if control.reports else 0


def served(engine: Engine) -> list[str]:
    """The ids of the requests that reached it, in order."""
    lines = (line for head, _ in engine.requests for line in head.split(b"\r\n"))
    return [line.split(b": ")[1].decode() for line in lines if line.startswith(b"x-request-id")]


async def started_engine() -> Engine:
    engine = Engine("e")
    await engine.start()
    return engine


async def crowd(
    process: Process, control: ControlPlane, size: int
) -> list[asyncio.Task[tuple[int, dict[str, object]]]]:
    asking = [asyncio.create_task(ask(process, f"r{number}")) for number in range(size)]
    await until(lambda: waiting(control) == size)
    return asking


async def test_a_gateway_that_stops_tells_those_who_wait_so_and_sends_none_of_them_on(tmp_path: Path) -> None:
    engine = await started_engine()
    async with ControlPlane(tmp_path) as control, started(tmp_path, STARTING) as process:
        asking = await crowd(process, control, 30)
        process.terminate()
        answers = await asyncio.gather(*asking)
        assert await process.end() == 0
    assert {(status, body["error"]["code"]) for status, body in answers} == {(503, "gateway_draining")}  # type: ignore[index]
    assert not engine.requests


async def test_who_gets_an_endpoint_while_the_gateway_drains_is_served_once(tmp_path: Path) -> None:
    engine = await started_engine()
    async with ControlPlane(tmp_path) as control, started(tmp_path, STARTING, drain_s=30) as process:
        asking = await crowd(process, control, 30)
        process.terminate()
        await asyncio.sleep(0.2)
        control.send(RouteTable(version=2, services=(service(engine),)))
        answers = await asyncio.gather(*asking)
        assert await process.end() == 0
    assert {status for status, _ in answers} == {200}
    assert sorted(served(engine)) == sorted(f"r{number}" for number in range(30))


async def test_a_gateway_that_dies_has_sent_none_of_them_and_the_next_serves_each_once(
    tmp_path: Path,
) -> None:
    engine = await started_engine()
    async with ControlPlane(tmp_path) as control:
        async with started(tmp_path, STARTING) as process:
            asking = await crowd(process, control, 30)
            process.kill()
            assert {status for status, _ in await asyncio.gather(*asking)} == {0}, "their connections end"
        assert not engine.requests
        control.reports.clear()
        async with started(tmp_path, STARTING) as process:
            asking = await crowd(process, control, 30)
            control.send(RouteTable(version=2, services=(service(engine),)))
            assert {status for status, _ in await asyncio.gather(*asking)} == {200}
    assert sorted(served(engine)) == sorted(f"r{number}" for number in range(30))


@pytest.mark.parametrize("size", [1500])
async def test_a_flood_at_zero_is_held_and_served_none_lost_none_doubled(tmp_path: Path, size: int) -> None:
    engine = await started_engine()
    async with ControlPlane(tmp_path) as control, started(tmp_path, STARTING) as process:
        before = process.memory_bytes
        asking = await crowd(process, control, size)
        each = (process.memory_bytes - before) / size
        control.send(RouteTable(version=2, services=(service(engine),)))
        answers = await asyncio.gather(*asking)
    assert {status for status, _ in answers} == {200}
    assert sorted(served(engine)) == sorted(f"r{number}" for number in range(size))
    assert each < 60_000, "bytes for each that waits, with its connection"
    print(f"{each:.0f} bytes for each that waits")
