"""Connections to one engine are made some at a time, so that a crowd does not overrun its backlog."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock.gateway.wire import pool
from penstock.gateway.wire.client import NotSent, Upstream, UpstreamError
from penstock.gateway.wire.pool import MAX_CONNECTING, Pool

CROWD = 300


class Crowd:
    """Callers who all want a connection to the same address."""

    def __init__(self, connections: Pool, port: int) -> None:
        self.made: list[Upstream] = []
        self.failed: list[UpstreamError] = []
        self._pool, self._address = connections, ("127.0.0.1", port)

    def ask(self, size: int, *, is_fresh: bool = True) -> None:
        for _ in range(size):
            self._pool.connect(self._address, self.made.append, self.failed.append, is_fresh=is_fresh)

    async def answered(self, size: int) -> None:
        async with asyncio.timeout(30):
            while len(self.made) + len(self.failed) < size:
                await asyncio.sleep(0.005)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Of a server that takes connections, and says nothing."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0, backlog=100)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in held:
        writer.transport.abort()
    await asyncio.sleep(0)


@pytest.fixture
async def connections() -> AsyncIterator[Pool]:
    made = Pool()
    yield made
    made.close()
    await asyncio.sleep(0)


async def test_a_crowd_is_connected_some_at_a_time(
    port: int, connections: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    connect, under_way, most = loop.create_connection, 0, 0

    async def counted(*args: object, **kwargs: object) -> object:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await connect(*args, **kwargs)  # type: ignore[arg-type]
        finally:
            under_way -= 1

    monkeypatch.setattr(loop, "create_connection", counted)
    crowd = Crowd(connections, port)
    crowd.ask(CROWD)
    await crowd.answered(CROWD)
    assert (len(crowd.made), crowd.failed) == (CROWD, [])
    assert most == MAX_CONNECTING
    for upstream in crowd.made:
        upstream.abort()


async def test_who_queued_takes_what_became_idle_meanwhile_unless_it_has_to_be_fresh(
    port: int, connections: Pool
) -> None:
    crowd = Crowd(connections, port)
    crowd.ask(1)
    await crowd.answered(1)
    idle = crowd.made[0]
    idle.reusable = True
    connections.give(idle)
    crowd.ask(1, is_fresh=True)
    await crowd.answered(2)
    assert crowd.made[1] is not idle
    crowd.ask(1, is_fresh=False)
    await crowd.answered(3)
    assert crowd.made[2] is idle
    for upstream in crowd.made:
        upstream.abort()


async def test_when_one_gives_up_those_behind_it_do_not_wait_as_long_again(
    connections: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT_S", 0.1)
    loop, tried = asyncio.get_running_loop(), 0

    async def never(*args: object, **kwargs: object) -> None:
        nonlocal tried
        tried += 1
        await asyncio.sleep(3600)

    monkeypatch.setattr(loop, "create_connection", never)
    crowd = Crowd(connections, 1)
    crowd.ask(CROWD)
    began = loop.time()
    await crowd.answered(CROWD)
    assert loop.time() - began < 20
    assert tried == MAX_CONNECTING
    assert {type(error) for error in crowd.failed} == {NotSent}
