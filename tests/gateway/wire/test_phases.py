"""Deaths at each phase of an exchange, on either side, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from gateway_world import STREAM, Engine, Gateway, chunk, post, service, until

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n"
EVENT = b'data: {"id":"1"}\n\n'
CANCEL_S = 0.05


class Dying(Engine):
    """Writes `last_words` once it has read as much as `reads`, and dies: by a reset or by an orderly end."""

    def __init__(self, reads: str, last_words: bytes, by: str) -> None:
        super().__init__(f"dies-{by}")
        self._reads, self._last_words, self._by = reads, last_words, by

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            if self._reads == "half":
                await reader.read(1)
            elif self._reads == "all":
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append((head, await reader.readexactly(len(BODY))))
            writer.write(self._last_words)
            await writer.drain()
            await asyncio.sleep(0.02)
            if self._by == "reset":
                reset(writer)


BODY = b'{"model":"m"}'
PHASES = {
    "after it accepted": ("none", b""),
    "in the middle of the request": ("half", b""),
    "after the request": ("all", b""),
    "in the status line": ("all", b"HTTP/1.1 2"),
    "in the head": ("all", b"HTTP/1.1 200 OK\r\ncontent-type: app"),
    "in the middle of a sized body": ("all", SIZED + b"01234"),
    "in the middle of a chunk": ("all", STREAM + b"20\r\ndata: half an ev"),
    "between chunks of an event": ("all", STREAM + chunk(b"data: half")),
    "between events": ("all", STREAM + chunk(EVENT)),
}
BEFORE_AN_ANSWER = list(PHASES)[:5]


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection by RST, not by FIN."""
    plain = writer.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def started(engine: Engine) -> Engine:
    await engine.start()
    return engine


def parts(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


@pytest.mark.parametrize("by", ["reset", "end"])
@pytest.mark.parametrize("phase", BEFORE_AN_ANSWER)
async def test_where_no_answer_began_another_engine_answers(tmp_path: Path, phase: str, by: str) -> None:
    dying, good = await started(Dying(*PHASES[phase], by)), await started(Engine("good"))
    async with Gateway(tmp_path, service(dying, good)) as gateway:
        while not dying.connections:
            answer = await gateway.raw(post(BODY, b"/v1/chat/completions", b"Connection: close"))
            assert parts(answer)[0] == 200, answer


@pytest.mark.parametrize("by", ["reset", "end"])
@pytest.mark.parametrize("phase", BEFORE_AN_ANSWER)
async def test_where_no_engine_answers_the_caller_is_told(tmp_path: Path, phase: str, by: str) -> None:
    dying = await started(Dying(*PHASES[phase], by))
    async with Gateway(tmp_path, service(dying)) as gateway:
        answer = await gateway.raw(post(BODY))
        status, body = parts(answer)
        assert status in (502, 503), answer
        assert json.loads(body)["error"]["code"]
        assert answer.count(b"x-request-id: ") == 1
        assert parts(await gateway.raw(HEALTH))[0] == 200
    assert dying.connections <= 4, "attempts are bounded"


@pytest.mark.parametrize("by", ["reset", "end"])
@pytest.mark.parametrize(
    "phase", ["in the middle of a sized body", "in the middle of a chunk", "between chunks of an event"]
)
async def test_a_cut_answer_never_looks_whole(tmp_path: Path, phase: str, by: str) -> None:
    dying, good = await started(Dying(*PHASES[phase], by)), await started(Engine("good"))
    async with Gateway(tmp_path, service(dying)) as gateway:
        answer = await gateway.raw(post(BODY))
    status, body = parts(answer)
    assert status == 200
    if b"content-length: 10" in answer:
        assert len(body) < 10
    else:
        assert not answer.endswith(b"\r\n0\r\n\r\n"), answer
    assert len(dying.requests) == 1, "never tried again"
    assert not good.requests


@pytest.mark.parametrize("by", ["reset", "end"])
async def test_a_stream_cut_between_events_ends_with_an_error_object(tmp_path: Path, by: str) -> None:
    dying = await started(Dying(*PHASES["between events"], by))
    async with Gateway(tmp_path, service(dying)) as gateway:
        answer = await gateway.raw(post(BODY))
    assert answer.endswith(b"\r\n0\r\n\r\n")
    assert EVENT in answer
    told = answer.rpartition(b"data: ")[2].partition(b"\n\n")[0]
    assert json.loads(told)["error"]["code"] == "upstream_cut_off"


async def test_a_connection_that_is_refused_is_told(tmp_path: Path) -> None:
    gone = await started(Engine("gone"))
    await gone.stop()
    async with Gateway(tmp_path, service(gone)) as gateway:
        assert parts(await gateway.raw(post(BODY)))[0] in (502, 503)


async def forever(
    engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answers nothing, and notes when the gateway leaves."""
    assert await reader.read() == b""
    raise ConnectionResetError


async def endless(
    engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One event, then nothing more."""
    writer.write(STREAM + chunk(EVENT))
    await writer.drain()
    await forever(engine, head, reader, writer)


async def finish(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def say_no_more(writer: asyncio.StreamWriter) -> None:
    writer.write_eof()


async def break_off(writer: asyncio.StreamWriter) -> None:
    reset(writer)


@pytest.mark.parametrize("how", [finish, break_off, say_no_more])
@pytest.mark.parametrize("script", [forever, endless])
async def test_a_client_that_goes_away_cancels_the_engine_within_50_ms(
    tmp_path: Path,
    script: Callable[..., Awaitable[None]],
    how: Callable[[asyncio.StreamWriter], Awaitable[None]],
) -> None:
    took = []
    for _ in range(20):  # on a busy machine the fastest tells what the gateway itself takes
        engine = await started(Engine("e", script))
        async with Gateway(tmp_path, service(engine)) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(post(BODY))
            await (reader.readuntil(EVENT) if script is endless else until(lambda e=engine: e.requests))
            loop = asyncio.get_running_loop()
            left = loop.time()
            await how(writer)
            await asyncio.wait_for(engine.gone.wait(), 30)
            took.append(loop.time() - left)
            writer.transport.abort()
        if took[-1] < CANCEL_S:
            return
    pytest.fail(f"the engine was told after {min(took):.3f} s")


CUTS = {
    "before a byte": b"",
    "in the request line": b"POST /v1/ch",
    "in the head": b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConte",
    "before the body": post(BODY)[: -len(BODY)],
    "in the body": post(BODY)[:-3],
    "in a chunk": b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{",
}


@pytest.mark.parametrize("how", [finish, break_off, say_no_more])
@pytest.mark.parametrize("data", CUTS.values(), ids=CUTS)
async def test_half_a_request_reaches_no_engine_and_leaves_nothing_behind(
    tmp_path: Path, data: bytes, how: Callable[[asyncio.StreamWriter], Awaitable[None]]
) -> None:
    engine = await started(Engine("e"))
    async with Gateway(tmp_path, service(engine), drain_s=60.0) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(data)
        await asyncio.sleep(0.02)
        await how(writer)
        if how is say_no_more:
            assert await asyncio.wait_for(reader.read(), 30) == b"", "its connection ends too"
        assert parts(await gateway.raw(post(BODY, b"/v1/chat/completions", b"Connection: close")))[0] == 200
        async with asyncio.timeout(30):  # or a connection was left that the gateway waits for
            await gateway.stop()
        writer.transport.abort()
    assert [body for _, body in engine.requests] == [BODY]


async def test_an_answer_before_the_requests_end_is_passed_on_and_the_connection_given_up(
    tmp_path: Path,
) -> None:
    class Early(Engine):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()
            await asyncio.sleep(0.2)  # it reads no more until the gateway has left
            with contextlib.suppress(ConnectionError), contextlib.closing(writer):
                while await reader.read(1 << 20):
                    pass
            self.gone.set()

    engine = await started(Early("early"))
    body = b'{"model":"m","pad":"' + b"x" * 20_000_000 + b'"}'
    async with Gateway(tmp_path, service(engine)) as gateway:
        assert parts(await gateway.raw(post(body)))[0] == 413
        await asyncio.wait_for(engine.gone.wait(), 30)


async def test_an_engine_that_says_ok_in_two_packets_and_waits_is_passed_on_at_once(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slowly(
        engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(STREAM + chunk(EVENT))
        await writer.drain()
        await release.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    engine = await started(Engine("e", slowly))
    async with Gateway(tmp_path, service(engine)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(post(BODY))
        await asyncio.wait_for(reader.readuntil(EVENT), 30)
        release.set()
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 30)
        writer.close()
