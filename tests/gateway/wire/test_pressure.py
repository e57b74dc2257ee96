"""Slow readers, slow writers and too many connections, over real sockets: what is held is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import psutil
import pytest
from gateway_world import STREAM, Engine, Gateway, chunk, post, service, until

from penstock.gateway.wire.message import Limits

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
PIECE = chunk(b"data: " + b"x" * 65_000 + b"\n\n")
PIECES = 1200
BOUND_BYTES = 24 << 20
"""Of 78 MB: kernel buffers of two connections, and ours."""


class Firehose(Engine):
    """Streams 78 MB as fast as it may, and counts."""

    def __init__(self) -> None:
        super().__init__("firehose", self._pour)
        self.poured = 0

    async def _pour(
        self, engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(STREAM)
        for _ in range(PIECES):
            writer.write(PIECE)
            await writer.drain()
            self.poured += len(PIECE)
        writer.write(b"0\r\n\r\n")


async def slow_client(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=plain, limit=16_384)


async def settled(engine: Firehose) -> int:
    """What it had poured when it got no further."""
    before = -1
    while before != engine.poured or not before:
        before = engine.poured
        await asyncio.sleep(0.3)
    return before


async def test_a_reader_that_stops_holds_the_engine_back_and_memory_stays_bounded(tmp_path: Path) -> None:
    engine = Firehose()
    await engine.start()
    async with Gateway(tmp_path, service(engine)) as gateway:
        before = psutil.Process().memory_info().rss
        reader, writer = await slow_client(gateway.port)
        writer.write(post())
        assert await settled(engine) < BOUND_BYTES
        assert psutil.Process().memory_info().rss - before < BOUND_BYTES
        received = 0
        while piece := await asyncio.wait_for(reader.read(1 << 16), 30):
            received += len(piece)
            if piece.endswith(b"\r\n0\r\n\r\n"):
                break
        assert received > PIECES * 65_000, "all of it comes once it reads on"
        writer.close()


async def test_a_reader_that_stops_and_leaves_frees_the_engine(tmp_path: Path) -> None:
    engine = Firehose()
    await engine.start()
    async with Gateway(tmp_path, service(engine)) as gateway:
        _, writer = await slow_client(gateway.port)
        writer.write(post())
        await settled(engine)
        writer.transport.abort()
        await asyncio.wait_for(engine.gone.wait(), 30)


async def test_one_slow_reader_delays_no_other_request(tmp_path: Path) -> None:
    hose, quick = Firehose(), Engine("quick")
    await hose.start()
    await quick.start()
    async with Gateway(tmp_path, service(hose, name="hose"), service(quick)) as gateway:
        _, writer = await slow_client(gateway.port)
        writer.write(post(b'{"model":"hose"}'))
        await settled(hose)
        answer = await gateway.raw(post())
        assert answer.startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()


async def test_requests_sent_ahead_are_not_read_beyond_a_bound(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def wait(
        engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    engine = Engine("e", wait)
    await engine.start()
    async with Gateway(tmp_path, service(engine)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.transport.set_write_buffer_limits(high=0)
        one = post(b'{"model":"m","pad":"' + b"x" * 10_000 + b'"}')
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 60 << 20:
                writer.write(one)
                sent += len(one)
                await asyncio.wait_for(writer.drain(), 0.5)
        assert sent < BOUND_BYTES, "the client is held back"
        await until(lambda: engine.requests)
        assert len(engine.requests) == 1
        release.set()
        for _ in range(50):
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /healthz HTTP/1.1\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["head", "sized body", "chunked body"],
)
async def test_a_byte_now_and_then_buys_no_time(tmp_path: Path, begun: bytes) -> None:
    async with Gateway(tmp_path, limits=Limits(head_s=0.4, body_s=0.4)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(begun)
        drip = b"X: y\r\n" if begun.startswith(b"GET") else b"1\r\nx\r\n"
        answer = asyncio.create_task(reader.read(1000))
        async with asyncio.timeout(30):
            while not answer.done():
                writer.write(drip)
                await asyncio.sleep(0.05)
        assert (await answer).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_one_peer_has_only_so_many_connections(tmp_path: Path) -> None:
    async with Gateway(tmp_path, limits=Limits(max_connections_per_peer=3)) as gateway:
        held = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(3)]
        for reader, writer in held:
            writer.write(HEALTH)
            assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 200 ")
        refused = await gateway.raw(HEALTH)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"too_many_connections_of_peer" in refused
        assert b'"server_error"' in refused
        assert b"\r\nretry-after: 1\r\n" in refused
        held[0][1].close()
        async with asyncio.timeout(30):
            while not (await gateway.raw(HEALTH)).startswith(b"HTTP/1.1 200 "):
                await asyncio.sleep(0.02)
        for _, writer in held:
            writer.close()


async def test_all_peers_together_have_only_so_many_connections(tmp_path: Path) -> None:
    async with Gateway(tmp_path, limits=Limits(max_connections=2)) as gateway:
        held = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(2)]
        await until(lambda: all(not writer.is_closing() for _, writer in held))
        refused = await gateway.raw(HEALTH)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b'"too_many_connections"' in refused
        for _, writer in held:
            writer.close()


async def test_bodies_of_all_together_are_bounded(tmp_path: Path) -> None:
    async with Gateway(tmp_path, limits=Limits(max_buffered_bytes=100_000)) as gateway:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n"
        first = await asyncio.open_connection("127.0.0.1", gateway.port)
        first[1].write(head + b"x" * 60_000)
        refused = b""
        async with asyncio.timeout(30):
            while not refused.startswith(b"HTTP/1.1 503 "):  # as soon as the first has been read
                refused = await gateway.raw(head + b"x" * 60_000, within_s=0.3)
        assert b"too_many_bodies" in refused
        first[1].transport.abort()
        async with asyncio.timeout(30):
            while refused.startswith(b"HTTP/1.1 503 "):
                refused = await gateway.raw(head + b"x" * 60_000, within_s=0.3)
