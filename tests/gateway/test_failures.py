"""Engines that fail in every way, on real sockets: what is tried again, what is not, and whom the next request avoids."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest
from gateway_world import OK, STREAM, Engine, Gateway, Script, SetClock, answer_ok, chunk, post, service

from penstock.decide.breaker import FAILURES_IN_A_ROW
from penstock.decide.retry_budget import AT_REST

BUSY = b"HTTP/1.1 %d Busy\r\ncontent-type: text/plain\r\n%scontent-length: 4\r\n\r\nbusy"
ASK = post(b'{"model":"m"}', b"/v1/completions", b"Connection: close")
GET = b"GET /serving/default/m/anything HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def says(status: int, headers: bytes = b"") -> Script:
    async def script(
        _: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(BUSY % (status, headers))

    return script


async def resets(_: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """With a RST, as a process that is killed."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def ends(_: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def half_a_head(
    _: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(OK[:20])
    writer.close()


async def no_http(_: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")


async def never(_: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def half_a_body(
    _: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345")
    writer.close()


async def half_a_stream(
    _: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(STREAM + chunk(b'data: {"choices":[]}\n\n'))
    await writer.drain()
    writer.transport.abort()


async def started(*scripts: Script) -> list[Engine]:
    engines = [Engine(f"engine-{number}", script) for number, script in enumerate(scripts)]
    for engine in engines:
        await engine.start()
    return engines


def retriable() -> list[Script]:
    return [says(502), says(503), says(504), resets, ends, half_a_head, no_http]


@pytest.mark.parametrize("script", retriable())
async def test_inference_that_meets_a_failing_engine_is_answered_by_the_other(
    tmp_path: Path, script: Script
) -> None:
    bad, good = await started(script, answer_ok)
    async with Gateway(tmp_path, service(bad, good), clock=SetClock()) as gateway:
        for _ in range(20):
            received = await gateway.raw(ASK)
            assert received.startswith(b"HTTP/1.1 200")
            assert received.endswith(b"{}")
    assert 1 <= len(bad.requests) <= FAILURES_IN_A_ROW + 1, "then its circuit is open"


@pytest.mark.parametrize("script", [resets, ends, half_a_head, says(502)])
async def test_what_may_have_run_and_may_not_run_twice_runs_once(tmp_path: Path, script: Script) -> None:
    bad, other = await started(script, script)
    async with Gateway(tmp_path, service(bad, other)) as gateway:
        received = await gateway.raw(
            post(b"{}", b"/serving/default/m/v1/load_lora_adapter", b"Connection: close")
        )
        assert received.split()[1] in (b"502", b"503")
        assert len(bad.requests) + len(other.requests) == 1
        assert (await gateway.raw(GET)).split()[1] in (b"502", b"503")
        assert len(bad.requests) + len(other.requests) == 3, "a read is tried at both"


@pytest.mark.parametrize("status", [400, 404, 408, 409, 422, 429, 500, 501])
async def test_what_an_engine_says_of_the_request_is_passed_on_and_never_asked_twice(
    tmp_path: Path, status: int
) -> None:
    engines = await started(says(status), says(status))
    async with Gateway(tmp_path, service(*engines)) as gateway:
        for number in range(FAILURES_IN_A_ROW + 2):
            drawn = post(
                b'{"model":"m"}', b"/v1/completions", b"Connection: close\r\nX-Request-Id: %d" % number
            )
            received = await gateway.raw(drawn)
            assert received.split()[1] == b"%d" % status
            assert received.endswith(b"busy")
    assert sum(len(e.requests) for e in engines) == FAILURES_IN_A_ROW + 2
    assert all(e.requests for e in engines), "neither is avoided for it"


async def test_when_nobody_is_left_the_engines_own_503_is_passed_on_with_its_retry_after(
    tmp_path: Path,
) -> None:
    [engine] = await started(says(503, b"retry-after: 7\r\n"))
    async with Gateway(tmp_path, service(engine)) as gateway:
        received = (await gateway.raw(ASK)).lower()
        assert received.startswith(b"http/1.1 503")
        assert b"retry-after: 7\r\n" in received
        assert received.endswith(b"busy")
    assert len(engine.requests) == 1


async def test_an_engine_that_asks_to_be_left_alone_is(tmp_path: Path) -> None:
    busy, good = await started(says(503, b"retry-after: 20\r\n"), answer_ok)
    async with Gateway(tmp_path, service(busy, good), clock=SetClock()) as gateway:
        for _ in range(30):
            assert (await gateway.raw(ASK)).startswith(b"HTTP/1.1 200")
    assert len(busy.requests) <= 1


async def test_an_outage_is_not_multiplied_and_the_spent_budget_is_counted(tmp_path: Path) -> None:
    engines = await started(says(503), says(503), says(503))
    count = 200
    async with Gateway(tmp_path, service(*engines), clock=SetClock()) as gateway:
        answers = await asyncio.gather(*(gateway.raw(ASK) for _ in range(count)))
        assert {answer.split()[1] for answer in answers} == {b"503"}
        metrics = await gateway.raw(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    seen = sum(len(e.requests) for e in engines)
    assert seen <= count + AT_REST + 0.2 * count + 1, "without a budget it would be three times as many"
    assert b"budget_exhausted" in metrics
    assert b"penstock_gateway_circuit_openings_total{endpoint=" in metrics


@pytest.mark.parametrize("header", [b"x-request-timeout-ms: 3000", b"grpc-timeout: 3000m"])
async def test_the_callers_deadline_bounds_the_whole_and_says_nothing_of_the_engine(
    tmp_path: Path, header: bytes
) -> None:
    engines = await started(never, never)
    async with Gateway(tmp_path, service(*engines)) as gateway:
        begun = asyncio.get_running_loop().time()
        answers = await asyncio.gather(
            *(
                gateway.raw(post(b'{"model":"m"}', b"/v1/completions", header, b"Connection: close"))
                for _ in range(4 * FAILURES_IN_A_ROW)
            )
        )
        assert asyncio.get_running_loop().time() - begun < 30
        assert {answer.split()[1] for answer in answers} == {b"504"}
        assert all(b"upstream_timeout" in answer for answer in answers)
        seen = [e.requests[0][0].lower() for e in engines]
        name = header.split(b":")[0]
        assert all(name + b": " in head and header + b"\r\n" not in head for head in seen), (
            "what is left is told"
        )
        for engine in engines:
            engine.script = answer_ok
        before = [len(e.requests) for e in engines]
        for _ in range(20):
            assert (await gateway.raw(ASK)).startswith(b"HTTP/1.1 200")
        assert all(len(e.requests) > n for e, n in zip(engines, before, strict=True)), "neither is avoided"


async def test_once_bytes_were_passed_on_nothing_is_tried_again(tmp_path: Path) -> None:
    for script in (half_a_body, half_a_stream):
        engines = await started(script, script)
        async with Gateway(tmp_path, service(*engines)) as gateway:
            received = await gateway.raw(ASK)
            assert received.startswith(b"HTTP/1.1 200")
            if script is half_a_stream:
                assert b"upstream_cut_off" in received
            else:
                assert received.endswith(b"12345")
        assert sum(len(e.requests) for e in engines) == 1


async def test_an_engine_that_dies_and_returns_is_probed_and_used_again(tmp_path: Path) -> None:
    first, second = await started(answer_ok, answer_ok)
    async with Gateway(tmp_path, service(first, second)) as gateway:
        await first.stop()
        first.requests.clear()
        for _ in range(20):
            assert (await gateway.raw(ASK)).startswith(b"HTTP/1.1 200")
        await first.start()
        async with asyncio.timeout(30):
            while not first.requests:
                assert (await gateway.raw(ASK)).startswith(b"HTTP/1.1 200")
