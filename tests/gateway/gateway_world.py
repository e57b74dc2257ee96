"""A real gateway on a free port, in front of engines that do as they are told; everything on loopback, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from free_ports import free_port
from penstock.app.registry import open_profile
from penstock.contracts.exchange import DemandReport, Endpoint, RevisionRoute, RouteTable, ServiceRoute
from penstock.gateway.server import GatewaySettings, serve
from penstock.gateway.wire.message import Limits
from penstock.kit.clock import Clock
from penstock.testing.clock import HandClock

Script = Callable[["Engine", bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def answer_ok(
    engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(OK)


QUIET_TURNS, TURN_S = 30, 0.01
"""After so many turns without a byte, of so many seconds each, no more is expected of a connection that stays open."""


class Engine:
    """An HTTP server whose every answer is a script; it notes the requests that it saw."""

    running: ClassVar[list[Engine]] = []

    def __init__(self, name: str, script: Script = answer_ok) -> None:
        self.name = name
        self.script = script
        self.port = free_port()
        self.requests: list[tuple[bytes, bytes]] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """At its port, also after `stop`."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.running.append(self)

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(name=self.name, address="127.0.0.1", port=self.port, node="n")

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.startswith(b"content-length")), 0
                )
                self.requests.append((head, await reader.readexactly(length)))
                await self.script(self, head, reader, writer)
                await writer.drain()
                if writer.is_closing():
                    return
        self.gone.set()


def service(*engines: Engine, **fields: Any) -> ServiceRoute:
    """`default/m` on these engines."""
    revision = RevisionRoute(name="m-1", weight_percent=100, endpoints=tuple(e.endpoint for e in engines))
    given = {
        "namespace": "default",
        "name": "m",
        "uid": "u",
        "engine_model": "m",
        "phase": "Ready",
        "revisions": (revision,),
    }
    return ServiceRoute(**{**given, **fields})


async def until(condition: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Look again and again, for as long as it may take on a busy machine."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


class SetClock(HandClock):
    """Stands where it is set, however long anything takes. Who sleeps by it sleeps in the loop's time."""

    def __init__(self) -> None:
        super().__init__(1_800_000_000.0)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class ControlPlane:
    """The other end of the feed: sends what it is told to, and notes the reports. Use within `async with`."""

    def __init__(self, folder: Path, greeting: bytes | RouteTable = b"") -> None:
        """`greeting` is sent to each gateway that connects."""
        self.socket = folder / "feed.sock"
        self.greeting = greeting
        self.reports: list[DemandReport] = []
        self.connections = 0
        self._gateways: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> ControlPlane:
        self._server = await asyncio.start_unix_server(self._accept, self.socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """As a process that dies: the listener and all connections are gone."""
        self._server.close()
        self.socket.unlink(missing_ok=True)
        await self.hang_up()

    @property
    def is_alone(self) -> bool:
        """Whether every gateway that came has hung up."""
        return not self._gateways

    async def hang_up(self) -> None:
        for writer in self._gateways.values():
            writer.transport.abort()
        await asyncio.gather(*self._gateways)

    def send(self, message: bytes | RouteTable) -> None:
        for writer in self._gateways.values():
            writer.write(_line(message))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(_line(self.greeting))
        task = asyncio.create_task(self._receive(reader))
        self._gateways[task] = writer
        task.add_done_callback(lambda _: (self._gateways.pop(task, None), writer.close()))

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self.reports.append(msgspec.json.decode(line, type=DemandReport))


def _line(message: bytes | RouteTable) -> bytes:
    return message if isinstance(message, bytes) else msgspec.json.encode(message) + b"\n"


class Gateway:
    """Use within `async with`; `stop` ends it earlier."""

    def __init__(
        self,
        folder: Path,
        *services: ServiceRoute,
        limits: Limits | None = None,
        drain_s: float = 1.0,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self._folder, self._clock = folder, clock
        (folder / "table.json").write_bytes(msgspec.json.encode(RouteTable(version=1, services=services)))
        self.port = free_port()
        self._settings = GatewaySettings(
            host="127.0.0.1",
            port=self.port,
            feed_socket=folder / "feed.sock",
            state_file=folder / "table.json",
            drain_s=drain_s,
            pepper=bytes(32),
            limits=limits or Limits(),
            **settings,
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Gateway:
        ready = asyncio.Event()
        self._task = asyncio.create_task(
            serve(
                self._settings, self._stop, open_profile=open_profile, clock=self._clock, on_ready=ready.set
            )
        )
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([self._task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        self._stop.set()
        await self._task

    async def raw(self, data: bytes, *, within_s: float = 30.0) -> bytes:
        """What comes back until the connection ends; where `data` does not ask for that, also until nothing more comes for a while."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        received, stays = b"", b"connection: close" not in data.lower()
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(within_s):
                while piece := await _next(reader, may_end=bool(received) and stays):
                    received += piece
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return received


async def _next(reader: asyncio.StreamReader, *, may_end: bool) -> bytes:
    """The next piece; b"" at the end, or where `may_end` and nothing comes for a while.

    That is counted in turns of the loop in which both the gateway and its engines run: a time in which nothing runs is none of it.
    """
    reading, turns = asyncio.ensure_future(reader.read(65536)), 0
    try:
        while not reading.done() and not (may_end and turns == QUIET_TURNS):
            await asyncio.wait((reading,), timeout=TURN_S)
            turns += 1
        return await reading if reading.done() else b""
    finally:
        reading.cancel()


def post(body: bytes = b'{"model":"m"}', path: bytes = b"/v1/chat/completions", *headers: bytes) -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
