"""Scraping over real sockets on loopback: bounded, and every failure says what it was."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from free_ports import free_port
from penstock.kit.errors import Unavailable
from penstock.kit.scrape import MAX_BODY_BYTES, scrape

Serve = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(await reader.readuntil(b"\r\n\r\n"), writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]


def answering(answer: bytes) -> Serve:
    async def serve(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return serve


async def test_the_body_of_an_answer_is_read_to_its_end() -> None:
    seen = []

    async def serve(head: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(head)
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nfirst ")
        await writer.drain()
        writer.write(b"second")

    async with server(serve) as port:
        assert await scrape("127.0.0.1", port, "metrics", timeout_s=30) == "first second"
    assert seen[0].startswith(b"GET /metrics HTTP/1.0\r\n")


async def test_chunks_are_put_together() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n3;x=1\r\n 2.\r\n0\r\n\r\n"
    async with server(answering(answer)) as port:
        assert await scrape("127.0.0.1", port, "/metrics", timeout_s=30) == "first 2."


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.0 503 Busy\r\n\r\n", "answered '503', expected 200"),
        (b"HTTP/1.0 200", "closed within the answer's headers"),
        (b"HTTP/1.0 200 OK\r\n" + b"x: y\r\n" * 20_000 + b"\r\n", "bytes of headers"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * (MAX_BODY_BYTES + 1), f"more than {MAX_BODY_BYTES} bytes"),
    ],
)
async def test_an_answer_that_cannot_be_used_is_named(answer: bytes, why: str) -> None:
    async with server(answering(answer)) as port:
        with pytest.raises(Unavailable, match=why):
            await scrape("127.0.0.1", port, "/metrics", timeout_s=30)


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def serve(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    async with server(serve) as port:
        with pytest.raises(Unavailable, match=r"no answer within 0\.1 s"):
            await scrape("127.0.0.1", port, "/metrics", timeout_s=0.1)


async def test_a_closed_port_and_a_path_with_a_line_break_are_refused() -> None:
    port = free_port()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}/metrics: Connect"):
        await scrape("127.0.0.1", port, "/metrics", timeout_s=30)
    with pytest.raises(Unavailable, match="control character"):
        await scrape("127.0.0.1", 1, "/metrics\r\nHost: other")
