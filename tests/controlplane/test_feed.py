"""The exchange's lower side over a real Unix socket: every gateway is on the newest table, or is not connected."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.contracts.exchange import DemandReport, RouteTable, ServiceDemand, ServiceRoute
from penstock.controlplane import feed as feed_module
from penstock.controlplane.feed import MAX_LINE_BYTES, Feed

PATIENCE_S = 30.0


class StandingClock:
    """Time that stands where it is put."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def now(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Gateway:
    """The other end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def table(self) -> RouteTable:
        async with asyncio.timeout(PATIENCE_S):
            return msgspec.json.decode(await self.reader.readline(), type=RouteTable)

    async def say(self, line: bytes) -> None:
        self.writer.write(line + b"\n")
        await self.writer.drain()

    async def report(self, name: str, requests: int) -> None:
        demand = (ServiceDemand(namespace="default", name="iris", requests=requests),)
        await self.say(msgspec.json.encode(DemandReport(gateway=name, at=1.0, window_s=1.0, services=demand)))

    async def rest(self) -> bytes:
        """Everything until the other side ends the connection."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionResetError):  # it left something of ours unread
                return await self.reader.read()
        return b""


class Line:
    """A feed that listens, and its gateways."""

    def __init__(self, path: Path, clock: StandingClock) -> None:
        self.path = path
        self.feed = Feed(clock)
        self.stop = asyncio.Event()
        self.gateways: list[Gateway] = []
        self.serving = asyncio.create_task(self.feed.serve(path, self.stop))

    async def connect(self) -> Gateway:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    gateway = Gateway(*await asyncio.open_unix_connection(self.path, limit=MAX_LINE_BYTES))
                except OSError:
                    await asyncio.sleep(0.001)
                else:
                    self.gateways.append(gateway)
                    return gateway

    async def requests(self, *expected: tuple[str, int]) -> None:
        """Wait until the demand at hand is this."""
        async with asyncio.timeout(PATIENCE_S):
            while sorted((r.gateway, r.services[0].requests) for r in self.feed.latest_demand()) != sorted(
                expected
            ):
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        self.stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await self.serving
        for gateway in self.gateways:
            gateway.writer.close()


@contextlib.asynccontextmanager
async def listening(path: Path, clock: StandingClock | None = None) -> AsyncIterator[Line]:
    line = Line(path, clock or StandingClock())
    try:
        yield line
    finally:
        await line.close()


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with listening(tmp_path / "feed.sock") as made:
        yield made


def routes(*names: str, message: str = "") -> tuple[ServiceRoute, ...]:
    return tuple(
        ServiceRoute(namespace="default", name=name, uid=name, engine_model=name, message=message)
        for name in names
    )


def names(table: RouteTable) -> list[str]:
    return [service.name for service in table.services]


async def test_a_gateway_gets_the_table_when_it_connects_and_after_each_change(line: Line) -> None:
    await line.feed.publish(routes("a"))
    early = await line.connect()
    assert names(await early.table()) == ["a"]
    await line.feed.publish(routes("a", "b"))
    late = await line.connect()
    assert names(await early.table()) == names(await late.table()) == ["a", "b"]


async def test_there_is_no_table_before_the_first_is_known_also_an_empty_one_counts(line: Line) -> None:
    gateway = await line.connect()
    await gateway.report("g", 1)
    await line.requests(("g", 1))
    await line.feed.publish(())
    assert await gateway.table() == line.feed.table
    assert line.feed.table.services == ()


async def test_nothing_is_sent_when_nothing_changed(line: Line) -> None:
    await line.feed.publish(routes("a"))
    gateway = await line.connect()
    first = await gateway.table()
    await line.feed.publish(routes("a"))
    await line.feed.publish(routes("b"))
    second = await gateway.table()
    assert names(second) == ["b"]
    assert second.version == first.version + 1


async def test_versions_grow_also_across_restarts_and_when_the_clock_stands(tmp_path: Path) -> None:
    clock, versions = StandingClock(), []
    for start in range(3):
        clock.now_s += 0.01
        async with listening(tmp_path / "feed.sock", clock) as line:
            gateway = await line.connect()
            for change in range(4):
                await line.feed.publish(routes(f"{start}-{change}"))
                versions.append((await gateway.table()).version)
    assert versions == sorted(set(versions))


async def test_the_last_report_of_each_gateway_is_kept_and_forgotten_when_it_leaves(line: Line) -> None:
    one, two = await line.connect(), await line.connect()
    await one.report("one", 1)
    await two.report("two", 2)
    await one.report("one", 3)
    await line.requests(("one", 3), ("two", 2))
    one.writer.close()
    await line.requests(("two", 2))


async def test_a_gateway_that_connects_again_before_its_old_end_is_noticed_counts_once(line: Line) -> None:
    old = await line.connect()
    await old.report("one", 1)
    await line.requests(("one", 1))
    new = await line.connect()
    await new.report("one", 2)
    await line.requests(("one", 2))
    old.writer.close()
    await old.writer.wait_closed()
    await new.report("one", 3)
    await line.requests(("one", 3))


@pytest.mark.parametrize(
    "broken",
    [b"{", b"[]", b'{"gateway": 1}', b"\xff\xfe", b" " * 3000],
    ids=["cut", "list", "type", "bytes", "long"],
)
async def test_a_broken_line_ends_its_connection_and_no_other(
    line: Line, broken: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await line.close()
    monkeypatch.setattr(feed_module, "MAX_LINE_BYTES", 1000)
    async with listening(line.path) as short:
        bad, good = await short.connect(), await short.connect()
        await bad.report("bad", 1)
        await good.report("good", 1)
        await short.requests(("bad", 1), ("good", 1))
        await bad.say(broken)
        assert await bad.rest() == b""
        await short.requests(("good", 1))
        await short.feed.publish(routes("a"))
        assert names(await good.table()) == ["a"]
    [said] = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert said.startswith("a gateway is disconnected: its line broke: ")


async def test_too_many_gateways_are_refused_until_one_leaves(
    line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feed_module, "MAX_GATEWAYS", 2)
    await line.feed.publish(routes("a"))
    first, second = await line.connect(), await line.connect()
    await first.table()
    await second.table()
    assert await (await line.connect()).rest() == b""
    assert "a gateway was refused: 2 are connected" in caplog.messages
    first.writer.close()
    async with asyncio.timeout(PATIENCE_S):
        while not (told := await (await line.connect()).reader.readline()):
            pass  # its end is not noticed yet
    assert names(msgspec.json.decode(told, type=RouteTable)) == ["a"]


async def test_a_gateway_that_does_not_take_the_routes_is_disconnected_and_comes_back_to_the_newest(
    line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feed_module, "SEND_TIMEOUT_S", 600)
    slow = socket.socket(socket.AF_UNIX)
    quick = await line.connect()
    with slow:
        slow.connect(str(line.path))
        report = DemandReport(
            gateway="slow", at=1.0, window_s=1.0, services=(ServiceDemand(namespace="n", name="s"),)
        )
        slow.sendall(msgspec.json.encode(report) + b"\n")
        await line.requests(("slow", 0))
        await line.feed.publish(routes("a", message="x" * (1 << 20)))
        assert names(await quick.table()) == ["a"]
        await asyncio.sleep(0.05)  # for what was written to be known as written
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: time.monotonic() + 600)
        await line.requests()
        slow.settimeout(PATIENCE_S)
        received = await asyncio.to_thread(_drained, slow)
    assert b"\n" not in received, "it has never got the whole table"
    assert "a gateway is disconnected: it did not take the routes within 600 s" in caplog.messages
    await line.feed.publish(routes("b"))
    assert names(await quick.table()) == ["b"]
    assert names(await (await line.connect()).table()) == ["b"]


def _drained(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


async def test_a_socket_that_was_left_behind_is_replaced_and_only_its_owner_may_connect(
    tmp_path: Path,
) -> None:
    path = tmp_path / "feed.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with listening(path) as line:
        await line.feed.publish(routes("a"))
        gateway = await line.connect()
        assert names(await gateway.table()) == ["a"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("how", ["told", "cancelled"])
async def test_a_stop_ends_every_connection_and_leaves_nothing_behind(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    before = asyncio.all_tasks()
    line = Line(tmp_path / "feed.sock", StandingClock())
    gateways = [await line.connect() for _ in range(3)]
    await line.feed.publish(routes("a"))
    for gateway in gateways:
        await gateway.table()
    if how == "told":
        line.stop.set()
        await line.serving
    else:
        line.serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await line.serving
    assert asyncio.all_tasks() == before
    assert [await gateway.rest() for gateway in gateways] == [b"", b"", b""]
    for gateway in gateways:
        gateway.writer.close()
    with pytest.raises(OSError):
        await asyncio.open_unix_connection(line.path)
    assert complaints == []
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("turns", [0, 2, 3, 4, 5, 6, 7])  # at 1 asyncio has accepted it and told nobody yet
@pytest.mark.parametrize("leaves", [False, True])
async def test_a_stop_at_any_moment_of_a_connection_leaves_nothing_behind(
    line: Line, leaves: bool, turns: int
) -> None:
    first = await line.connect()
    await first.report("first", 1)
    await line.requests(("first", 1))
    before = asyncio.all_tasks()
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(line.path))
        if leaves:
            first.writer.transport.abort()
        for _ in range(turns):
            await asyncio.sleep(0)
        line.stop.set()
        await line.serving
        for _ in range(8):
            await asyncio.sleep(0)
        other.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionResetError):  # it was never accepted
            assert await asyncio.to_thread(other.recv, 1) == b""
    assert asyncio.all_tasks() <= before
    gc.collect()  # tells of connections that nobody closed
