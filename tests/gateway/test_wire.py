"""HTTP/1.1 at the front: what is understood, what is refused, what is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import h11
import pytest
from gateway_world import STREAM, Engine, Gateway, chunk, post, service
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patient_loop import PatientLoop

from penstock.gateway.wire.message import Limits


async def test_requests_on_one_connection_are_answered_in_order_also_when_pipelined(tmp_path: Path) -> None:
    async def slow_first(engine, head, reader, writer):
        body = engine.requests[-1][1]
        await asyncio.sleep(0.1 if b"first" in body else 0)
        text = json.dumps({"echo": json.loads(body)["n"]}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))

    engine = Engine("e", slow_first)
    await engine.start()
    async with Gateway(tmp_path, service(engine)) as gateway:
        names = (b"first", b"second", b"third")
        answer = await gateway.raw(b"".join(post(b'{"model":"m","n":"%s"}' % n) for n in names))
        assert [answer.index(n) for n in names] == sorted(answer.index(n) for n in names)
        assert answer.count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/3.7\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
async def test_what_is_ambiguous_or_malformed_is_refused_and_the_connection_ends(
    tmp_path: Path, request_: bytes
) -> None:
    async with Gateway(tmp_path) as gateway:
        answer = await gateway.raw(request_)
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert b"connection: close" in answer
        assert b"x-request-id: " in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 5000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 20 + b"\r\n", 431),
        (b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n", 413),
        (b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"a" * 2000), 413),
        (b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nabc", 408),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", 408),
    ],
)
async def test_every_length_and_time_has_a_bound_with_a_status(
    tmp_path: Path, request_: bytes, status: int
) -> None:
    limits = Limits(max_head_bytes=4096, max_headers=16, max_body_bytes=1000, head_s=0.2, body_s=0.2)
    async with Gateway(tmp_path, limits=limits) as gateway:
        answer = await gateway.raw(request_)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer


async def test_an_idle_connection_ends_without_a_word(tmp_path: Path) -> None:
    async with Gateway(tmp_path, limits=Limits(idle_s=0.1)) as gateway:
        assert await gateway.raw(b"") == b""


async def test_a_client_that_asks_first_is_told_to_go_on(tmp_path: Path) -> None:
    engine = Engine("e")
    await engine.start()
    async with Gateway(tmp_path, service(engine)) as gateway:
        head, _, body = post(b'{"model":"m"}', b"/v1/chat/completions", b"Expect: 100-continue").partition(
            b"\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_head_has_no_body_and_chunked_bodies_arrive_whole(tmp_path: Path) -> None:
    engine = Engine("e")
    await engine.start()
    async with Gateway(tmp_path, service(engine)) as gateway:
        answer = await gateway.raw(b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.endswith(b"\r\n\r\n")
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        await gateway.raw(head + chunk(b'{"model"') + chunk(b':"m"}') + b"0\r\n\r\n")
        assert engine.requests[0][1] == b'{"model":"m"}'


async def test_answers_are_well_formed_in_the_eyes_of_another_parser(tmp_path: Path) -> None:
    async def stream(engine, head, reader, writer):
        writer.write(STREAM + chunk(b"data: a\n\n") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    streaming, plain = Engine("s", stream), Engine("p")
    await streaming.start()
    await plain.start()
    async with Gateway(tmp_path, service(streaming, name="s"), service(plain, name="p")) as gateway:
        requests = [
            post(b'{"model":"s"}'),
            post(b'{"model":"p"}'),
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
            post(b'{"model":"none"}'),
        ]
        answer = await gateway.raw(b"".join(requests))
    seen = []
    rest = answer
    for _ in requests:
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(rest)
        body = b""
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                seen.append(event.status_code)
            else:
                body += bytes(event.data)
        rest = parser.trailing_data[0]
        assert body
    assert seen == [200, 200, 200, 404]
    assert rest == b""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b"GET ", b"POST ", b"/v1/models ", b"HTTP/1.1", b"\r\n", b"\n", b"Host: x\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"abc", b"\x00", b"\xff", b":", b" "]), max_size=14))  # fmt: skip
def test_whatever_is_sent_the_gateway_answers_refuses_or_closes_and_lives_on(
    tmp_path: Path, pieces: list[bytes]
) -> None:
    async def run() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        async with Gateway(tmp_path, limits=Limits(head_s=0.2, body_s=0.2)) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"".join(pieces))
            if writer.can_write_eof():
                writer.write_eof()
            answer = b""
            try:
                async with asyncio.timeout(30):
                    answer = await reader.read()
            except ConnectionError:
                pass
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
            assert (
                await gateway.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            ).startswith(b"HTTP/1.1 200")
        assert not faults

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        runner.run(run())
