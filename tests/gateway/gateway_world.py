"""A real gateway on a free port, in front of engines that do as they are told; everything on loopback, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from penstock.app.registry import open_profile
from penstock.contracts.exchange import DemandReport, Endpoint, RevisionRoute, RouteTable, ServiceRoute
from penstock.gateway.server import GatewaySettings, serve
from penstock.gateway.wire.message import Limits

Script = Callable[["Engine", bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def answer_ok(
    engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(OK)


class Engine:
    """An HTTP server whose every answer is a script; it notes the requests that it saw."""

    running: ClassVar[list[Engine]] = []

    def __init__(self, name: str, script: Script = answer_ok) -> None:
        self.name = name
        self.script = script
        self.requests: list[tuple[bytes, bytes]] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
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


async def until(condition: Callable[[], object], *, within_s: float = 5.0) -> None:
    """Look again and again, for as long as it may take on a busy machine."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


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
        **settings: Any,
    ) -> None:
        self._folder = folder
        (folder / "table.json").write_bytes(msgspec.json.encode(RouteTable(version=1, services=services)))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
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
            serve(self._settings, self._stop, open_profile=open_profile, on_ready=ready.set)
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

    async def raw(self, data: bytes, *, within_s: float = 3.0) -> bytes:
        """What comes back until the connection ends, or until nothing more comes for a while."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        received = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(within_s):
                while piece := await asyncio.wait_for(reader.read(65536), 0.3 if received else within_s):
                    received += piece
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return received


def post(body: bytes = b'{"model":"m"}', path: bytes = b"/v1/chat/completions", *headers: bytes) -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
