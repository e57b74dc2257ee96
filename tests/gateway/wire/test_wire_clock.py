"""Every time of the wire, in virtual time: when it runs out, what is said, and what buys none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from observers import Wire

from penstock.gateway.wire.connection import FLUSH_S, LINGER_S, Connection
from penstock.gateway.wire.message import Limits, Request
from penstock.gateway.wire.responder import Responder
from penstock.gateway.wire.server import SWEEP_S, Server

pytestmark = pytest.mark.looptime
LIMITS = Limits()
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


class Held:
    """A handler that answers only when told to, and notes what it is told."""

    def __init__(self) -> None:
        self.responders: list[Responder] = []
        self.told: list[str] = []

    def __call__(self, request: Request, respond: Responder) -> None:
        self.responders.append(respond)

    def on_gone(self) -> None:
        self.told.append("gone")

    def on_late(self) -> None:
        self.told.append("late")

    def on_cut(self) -> None:
        self.told.append("cut")

    def on_pause(self, paused: bool) -> None:
        self.told.append(f"pause {paused}")


class Socket(Wire):
    """Closing waits for the peer when `stuck`; only aborting ends it then."""

    stuck = False

    def close(self) -> None:
        if not self.stuck:
            super().close()
        self._closing = True

    def abort(self) -> None:
        self._closing = False
        super().close()


@contextlib.asynccontextmanager
async def connected(handler: Held) -> AsyncIterator[tuple[Connection, Socket]]:
    server = Server(handler, LIMITS)
    sweeping = asyncio.create_task(server.sweep())
    connection = server.connection()
    wire = Socket(connection)
    connection.connection_made(wire)
    yield connection, wire
    sweeping.cancel()


async def closes_after(wire: Wire, seconds: float) -> None:
    """Not before, and not much later than a sweep takes."""
    await asyncio.sleep(seconds - 0.01)
    assert not wire.is_closing()
    assert not wire.written
    await asyncio.sleep(2 * SWEEP_S + 0.02)


def is_refused(wire: Wire, status: int) -> bool:
    return wire.written.startswith(b"HTTP/1.1 %d " % status) and b"connection: close" in wire.written


async def test_an_idle_connection_closes_without_a_word() -> None:
    async with connected(Held()) as (_, wire):
        await closes_after(wire, LIMITS.idle_s)
        assert wire.is_closing()
        assert not wire.written


@pytest.mark.parametrize("begun", [b"G", b"GET / HTTP/1.1\r\n", GET[:-2]])
async def test_a_head_has_so_long_from_its_first_byte(begun: bytes) -> None:
    async with connected(Held()) as (connection, wire):
        await asyncio.sleep(40)
        connection.data_received(begun)
        await closes_after(wire, LIMITS.head_s)
        assert is_refused(wire, 408)


async def test_bytes_of_a_head_buy_no_time() -> None:
    async with connected(Held()) as (connection, wire):
        connection.data_received(b"GET / HTTP/1.1\r\n")
        for _ in range(14):
            await asyncio.sleep(1)
            connection.data_received(b"X: y\r\n")
        assert not wire.written
        await asyncio.sleep(1 + 2 * SWEEP_S)
        assert is_refused(wire, 408)


async def test_bytes_of_a_request_line_buy_no_time() -> None:
    async with connected(Held()) as (connection, wire):
        for letter in b"GET /aaaaaaaaa":
            connection.data_received(bytes((letter,)))
            await asyncio.sleep(1)
        assert not wire.written
        await asyncio.sleep(1 + 2 * SWEEP_S)
        assert is_refused(wire, 408)


async def test_empty_lines_buy_no_time() -> None:
    async with connected(Held()) as (connection, wire):
        for _ in range(int(LIMITS.idle_s)):
            await asyncio.sleep(1)
            if not wire.is_closing():
                connection.data_received(b"\r\n")
        await asyncio.sleep(LINGER_S + 4 * SWEEP_S)
        assert wire.is_closing()


async def test_a_body_has_so_long_from_its_head_on() -> None:
    async with connected(Held()) as (connection, wire):
        connection.data_received(POST)
        for _ in range(4):
            await asyncio.sleep(LIMITS.body_s / 5)
            connection.data_received(b"x")
        assert not wire.written
        await asyncio.sleep(LIMITS.body_s / 5 + 2 * SWEEP_S)
        assert is_refused(wire, 408)


async def test_a_request_that_is_being_answered_has_no_end_of_its_own() -> None:
    handler = Held()
    async with connected(handler) as (connection, wire):
        connection.data_received(GET)
        await asyncio.sleep(1000)
        assert not wire.is_closing()
        handler.responders[0].send(200, [], b"")
        wire.written.clear()
        await closes_after(wire, LIMITS.idle_s)
        assert wire.is_closing()


async def test_the_one_who_answers_is_told_when_its_time_is_up() -> None:
    handler = Held()
    async with connected(handler) as (connection, wire):
        connection.data_received(GET)
        handler.responders[0].watch(handler, 30.0)
        await asyncio.sleep(29.9)
        assert not handler.told
        await asyncio.sleep(0.1 + 2 * SWEEP_S)
        assert handler.told == ["late"]
        assert not wire.is_closing()


async def test_a_request_begun_behind_another_has_a_heads_time_once_that_is_answered() -> None:
    handler = Held()
    async with connected(handler) as (connection, wire):
        connection.data_received(GET + b"GET / HT")
        await asyncio.sleep(1000)
        handler.responders[0].send(200, [], b"")
        wire.written.clear()
        await closes_after(wire, LIMITS.head_s)
        assert is_refused(wire, 408)


async def test_the_answer_that_was_refused_can_be_read_before_the_connection_ends() -> None:
    async with connected(Held()) as (connection, wire):
        connection.data_received(b"nonsense\r\n\r\n")
        assert is_refused(wire, 400)
        assert not wire.is_closing()
        for _ in range(10):
            connection.data_received(b"more nonsense\r\n" * 100)
            await asyncio.sleep(LINGER_S / 20)
        assert wire.written.count(b"HTTP/1.1 ") == 1
        await asyncio.sleep(LINGER_S / 2 + 2 * SWEEP_S)
        assert wire.is_closing()


async def test_a_client_that_reads_its_last_answer_never_is_cut_off() -> None:
    handler = Held()
    async with connected(handler) as (connection, wire):
        wire.stuck = True
        connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        handler.responders[0].send(200, [], b"x")
        assert wire.is_closing()
        await asyncio.sleep(FLUSH_S - 1)
        assert connection._server.connections
        await asyncio.sleep(1 + 3 * SWEEP_S)
        assert not connection._server.connections
