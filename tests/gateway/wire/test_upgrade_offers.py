"""A client may offer HTTP/2 with every request (curl's --http2, Java's HttpClient); its body is HTTP/1.1's all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from gateway_world import Engine, Gateway, chunk, service

BODY = b'{"model":"m","n":1}'
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
SIZED = b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n" + chunk(BODY[:7]) + chunk(BODY[7:]) + b"0\r\n\r\n"


def request(framed: bytes, protocol: bytes = b"h2c") -> bytes:
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + OFFER % protocol + framed


@pytest.mark.parametrize("framed", [SIZED, CHUNKED])
async def test_the_offer_is_ignored_and_the_connection_goes_on(tmp_path: Path, framed: bytes) -> None:
    engine = Engine("e")
    await engine.start()
    async with Gateway(tmp_path, service(engine)) as gateway:
        told = await gateway.raw(request(framed) + request(framed))
    assert told.count(b"HTTP/1.1 200 OK") == 2
    assert [body for _, body in engine.requests] == [BODY, BODY]
    for head, _ in engine.requests:
        assert not any(name in head.lower() for name in (b"upgrade", b"http2-settings"))


@pytest.mark.parametrize("framed", [SIZED, CHUNKED])
async def test_it_may_come_in_any_pieces(tmp_path: Path, framed: bytes) -> None:
    engine = Engine("e")
    await engine.start()
    data = request(framed)
    async with Gateway(tmp_path, service(engine)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for cut in range(1, len(data), 7):
            writer.write(data[:cut])
            await asyncio.sleep(0)
            await writer.drain()
            await asyncio.sleep(0.001)
            writer.write(data[cut:])
            assert (await reader.readuntil(b"\r\n\r\n{}")).startswith(b"HTTP/1.1 200 OK")
        writer.close()
        await writer.wait_closed()
    assert {body for _, body in engine.requests} == {BODY}


@pytest.mark.parametrize("framed", [SIZED, CHUNKED])
async def test_an_offer_that_would_be_taken_may_have_no_body(tmp_path: Path, framed: bytes) -> None:
    engine = Engine("e")
    await engine.start()
    async with Gateway(tmp_path, service(engine)) as gateway:
        told = await gateway.raw(request(framed, b"websocket"))
    assert told.startswith(b"HTTP/1.1 501 ")
    assert not engine.requests
