"""WebSockets through a real gateway, between a client and a server that others wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from gateway_world import ControlPlane, Engine, Gateway, answer_ok, service, until
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from penstock.contracts.exchange import Endpoint, ServiceRoute
from penstock.gateway.wire import tunnel

Script = Callable[[ServerConnection], Awaitable[None]]
MEGABYTE = bytes(1 << 20)
PATH = "/serving/default/m/ws"


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


@asynccontextmanager
async def engine(script: Script = echo) -> AsyncIterator[ServiceRoute]:
    """`default/m`, which speaks WebSocket at every path."""
    async with serve(script, "127.0.0.1", 0, subprotocols=["a", "b"], max_size=None) as server:  # type: ignore[list-item]
        port = next(iter(server.sockets)).getsockname()[1]
        there = service()
        [revision] = there.revisions
        endpoint = Endpoint(name="e", address="127.0.0.1", port=port)
        yield replace(there, revisions=(replace(revision, endpoints=(endpoint,)),))


def dial(gateway: Gateway, path: str = PATH, **how: object) -> connect:
    url = gateway.url.replace("http", "ws", 1) + path
    return connect(url, proxy=None, max_size=None, compression=None, subprotocols=["x", "b"], **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [PATH, "/v1/realtime?model=m"])
async def test_texts_bytes_and_pings_pass_both_ways(tmp_path: Path, path: str) -> None:
    async with engine() as there, Gateway(tmp_path, there) as gateway:
        async with dial(gateway, path) as socket:
            assert socket.subprotocol == "b"
            for message in ("héllo", b"\x00\xff", "", MEGABYTE):
                await socket.send(message)
                assert await socket.recv() == message
            await (await socket.ping())
        assert socket.close_code == 1000


async def test_what_is_said_at_once_arrives(tmp_path: Path) -> None:
    async def greets(socket: ServerConnection) -> None:
        await socket.send("welcome")
        await echo(socket)

    async with engine(greets) as there, Gateway(tmp_path, there) as gateway:
        for _ in range(20):
            async with dial(gateway) as socket:
                assert await socket.recv() == "welcome"


async def test_why_the_engine_closes_is_told(tmp_path: Path) -> None:
    async def closes(socket: ServerConnection) -> None:
        await socket.close(4001, "enough")

    async with engine(closes) as there, Gateway(tmp_path, there) as gateway, dial(gateway) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert (socket.close_code, socket.close_reason) == (4001, "enough")


async def test_an_engine_that_dies_takes_the_connection_with_it(tmp_path: Path) -> None:
    async def dies(socket: ServerConnection) -> None:
        socket.transport.abort()

    async with engine(dies) as there, Gateway(tmp_path, there) as gateway, dial(gateway) as socket:
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionClosed):
                await socket.recv()
    assert socket.close_code == 1006


async def test_a_client_that_vanishes_is_gone_for_the_engine(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def waits(socket: ServerConnection) -> None:
        await socket.wait_closed()
        ended.set()

    async with engine(waits) as there, Gateway(tmp_path, there) as gateway, dial(gateway) as socket:
        socket.transport.abort()
        async with asyncio.timeout(30):
            await ended.wait()


async def test_a_slow_reader_on_either_side_stops_the_other_and_keeps_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "FLUSH_S", 0.2)
    sent = {"engine": 0, "client": 0}
    ended = asyncio.Event()

    async def pours(side: str, socket: ServerConnection | ClientConnection) -> None:
        with suppress(ConnectionClosed):
            for _ in range(100):
                await socket.send(MEGABYTE)
                sent[side] += 1

    async def pours_and_listens_to_nobody(socket: ServerConnection) -> None:
        await pours("engine", socket)
        ended.set()

    async with (
        engine(pours_and_listens_to_nobody) as there,
        Gateway(tmp_path, there) as gateway,
        dial(gateway, max_queue=1) as socket,
    ):
        pouring = asyncio.create_task(pours("client", socket))
        before: dict[str, int] = {}
        async with asyncio.timeout(30):
            while sent != before or not all(sent.values()):
                before = dict(sent)
                await asyncio.sleep(0.3)
        assert 0 < sent["engine"] < 40, sent
        assert 0 < sent["client"] < 40, sent
        socket.transport.abort()
        await pouring
        async with asyncio.timeout(30):
            await ended.wait()


async def test_a_services_time_limits_answers_not_conversations(tmp_path: Path) -> None:
    async with (
        engine() as there,
        Gateway(tmp_path, replace(there, timeout_s=1.0)) as gateway,
        dial(gateway) as socket,
    ):
        await asyncio.sleep(2.0)
        await socket.send("still here")
        assert await socket.recv() == "still here"


async def test_an_open_conversation_is_demand_until_it_ends(tmp_path: Path) -> None:
    async with engine() as there, ControlPlane(tmp_path) as plane, Gateway(tmp_path, there) as gateway:
        async with dial(gateway):
            await until(lambda: any(s.in_flight > 0.5 for r in plane.reports for s in r.services))
        await until(lambda: plane.reports[-1].services == ())


async def test_a_gateway_that_stops_does_not_wait_for_it_for_ever(tmp_path: Path) -> None:
    async with engine() as there, Gateway(tmp_path, there, drain_s=0.3) as gateway, dial(gateway) as socket:
        async with asyncio.timeout(30):
            await gateway.stop()
            with pytest.raises(ConnectionClosed):
                await socket.recv()


async def test_refusals_come_before_the_switch(tmp_path: Path) -> None:
    plain = Engine("e", answer_ok)
    await plain.start()
    async with Gateway(tmp_path, service(plain)) as gateway:
        with pytest.raises(InvalidStatus) as unknown:
            await dial(gateway, "/v1/realtime?model=n")
        with pytest.raises(InvalidStatus) as unwilling:
            await dial(gateway)
    assert unknown.value.response.status_code == 404
    assert unwilling.value.response.status_code == 200, "the engine's own answer"
    assert b"upgrade: websocket" in plain.requests[0][0].lower()


async def test_without_a_key_nobody_gets_through_where_one_is_asked_for(tmp_path: Path) -> None:
    async with engine() as there, Gateway(tmp_path, there, require_keys=True) as gateway:
        with pytest.raises(InvalidStatus) as caught:
            await dial(gateway)
    assert caught.value.response.status_code == 401
