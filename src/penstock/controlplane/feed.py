"""The control plane's side of the exchange: RouteTables out, DemandReports in, over a Unix socket (contracts/exchange.py)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from penstock.contracts.exchange import DemandReport, KeyRoute, RouteTable, ServiceRoute, TenantRoute
from penstock.kit.clock import Clock
from penstock.kit.tasks import end

MAX_LINE_BYTES = 16 << 20
MAX_GATEWAYS = 64
SEND_TIMEOUT_S = 5.0
logger = logging.getLogger(__name__)


class Feed:
    """Keeps every connected gateway on the newest RouteTable, and the newest DemandReport of each at hand."""

    def __init__(self, clock: Clock) -> None:
        """Versions start at the present millisecond, so that they grow across restarts."""
        self._clock = clock
        self._table = RouteTable(version=int(clock.now() * 1000))
        self._line = b""
        self._changed = asyncio.Condition()
        self._listening = False
        self._connected: set[asyncio.Task[None]] = set()
        self._demand: dict[object, DemandReport] = {}
        self._hearers: list[Callable[[DemandReport], None]] = []

    def subscribe(self, hear: Callable[[DemandReport], None]) -> None:
        """Call `hear` with each report, from now on and for good; it must not wait or fail."""
        self._hearers.append(hear)

    def take(self, source: object, report: DemandReport) -> None:
        """A gateway has reported; `source` is its connection."""
        self._demand[source] = report
        for hear in self._hearers:
            hear(report)

    def latest_demand(self) -> tuple[DemandReport, ...]:
        """The last report of each gateway that is connected."""
        return tuple({report.gateway: report for report in self._demand.values()}.values())

    @property
    def table(self) -> RouteTable:
        """What gateways were told last."""
        return self._table

    async def publish(
        self,
        services: tuple[ServiceRoute, ...],
        keys: tuple[KeyRoute, ...] = (),
        tenants: tuple[TenantRoute, ...] = (),
    ) -> None:
        """Tell every gateway, unless nothing changed."""
        present = self._table
        if self._line and (services, keys, tenants) == (present.services, present.keys, present.tenants):
            return
        version = max(present.version + 1, int(self._clock.now() * 1000))
        async with self._changed:
            self._table = RouteTable(version=version, services=services, keys=keys, tenants=tenants)
            self._line = msgspec.json.encode(self._table) + b"\n"
            self._changed.notify_all()

    async def serve(self, path: Path, stop: asyncio.Event) -> None:
        """Listen until `stop`. A socket that an earlier process left behind is replaced."""
        listener = await asyncio.to_thread(_listener, path)
        self._listening = True
        server = await asyncio.start_unix_server(self._accept, sock=listener, limit=MAX_LINE_BYTES)
        try:
            await stop.wait()
        finally:
            self._listening = False
            server.close()
            await end(self._connected)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """No coroutine: asyncio would make the task itself, and on Python 3.11 complain when it is cancelled.

        The connection is closed when its task is done, which also holds for a task that is cancelled before it starts.
        """
        if len(self._connected) >= MAX_GATEWAYS:
            logger.warning("a gateway was refused: %d are connected", MAX_GATEWAYS)
        if not self._listening or len(self._connected) >= MAX_GATEWAYS:
            writer.close()
            return
        task = asyncio.create_task(self._converse(reader, writer), name="a gateway's connection")
        self._connected.add(task)
        task.add_done_callback(self._connected.discard)
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both directions, until either ends: a gateway that cannot be told the routes connects again."""
        directions = (
            asyncio.create_task(self._receive(reader), name="a gateway's reports"),
            asyncio.create_task(self._send(writer), name="a gateway's tables"),
        )
        try:
            ended, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                if reason := task.result():
                    logger.warning("a gateway is disconnected: %s", reason)
        finally:
            await end(directions)

    async def _receive(self, reader: asyncio.StreamReader) -> str:
        """Keep each report until the connection ends; why it ended, "" where the gateway left."""
        decoder = msgspec.json.Decoder(DemandReport)
        try:
            while line := await reader.readline():
                self.take(reader, decoder.decode(line))
        except (OSError, ValueError, msgspec.DecodeError) as error:
            return f"its line broke: {error}"
        finally:
            self._demand.pop(reader, None)
        return ""

    async def _send(self, writer: asyncio.StreamWriter) -> str:
        """Tell each new table until the connection ends; why it ended."""
        sent = -1
        while True:
            async with self._changed:
                while not self._line or self._table.version == sent:
                    await self._changed.wait()
                line, sent = self._line, self._table.version
            writer.write(line)
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await writer.drain()
            except TimeoutError:
                return f"it did not take the routes within {SEND_TIMEOUT_S:g} s"
            except OSError as error:
                return f"it does not take the routes: {error}"


def _listener(path: Path) -> socket.socket:
    """Bound, and closed to other users before anybody can connect."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener
