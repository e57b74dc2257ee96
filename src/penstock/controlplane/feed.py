"""The control plane's side of the exchange: RouteTables out, DemandReports in, over a Unix socket (contracts/exchange.py)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec

from penstock.contracts.controller import Cache, Key, Watch
from penstock.contracts.exchange import DemandReport, RouteTable, ServiceRoute
from penstock.decide.route_table import service_routes
from penstock.kit.clock import Clock
from penstock.resources.core import Namespace
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod
from penstock.resources.serving import InferenceService

MAX_LINE_BYTES = 16 << 20
MAX_GATEWAYS = 64
SEND_TIMEOUT_S = 5.0
COALESCE_S = 0.01
ALL = Key("", "routes")
logger = logging.getLogger(__name__)


class Feed:
    """Keeps every connected gateway on the newest RouteTable, and the newest DemandReport of each at hand."""

    def __init__(self, clock: Clock) -> None:
        """Versions start at the present millisecond, so that they grow across restarts."""
        self._clock = clock
        self._table = RouteTable(version=int(clock.now() * 1000))
        self._published = False
        self._changed = asyncio.Condition()
        self._connected: set[asyncio.Task[None]] = set()
        self._demand: dict[str, DemandReport] = {}

    def latest_demand(self) -> tuple[DemandReport, ...]:
        """The last report of each gateway that is connected."""
        return tuple(self._demand.values())

    @property
    def table(self) -> RouteTable:
        """What gateways were told last."""
        return self._table

    async def publish(self, services: tuple[ServiceRoute, ...]) -> None:
        """Tell every gateway, unless nothing changed."""
        if self._published and services == self._table.services:
            return
        version = max(self._table.version + 1, int(self._clock.now() * 1000))
        async with self._changed:
            self._table = RouteTable(version=version, services=services)
            self._published = True
            self._changed.notify_all()

    async def serve(self, path: Path, stop: asyncio.Event) -> None:
        """Listen until `stop`. A socket that an earlier process left behind is replaced."""
        await asyncio.to_thread(path.unlink, missing_ok=True)
        server = await asyncio.start_unix_server(self._accept, path, limit=MAX_LINE_BYTES)
        await asyncio.to_thread(path.chmod, 0o600)
        try:
            await stop.wait()
        finally:
            server.close()
            for task in tuple(self._connected):
                task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connected) >= MAX_GATEWAYS:
            logger.warning("a gateway was refused: %d are connected", MAX_GATEWAYS)
            writer.close()
            return
        self._connected.add(task)
        sending = asyncio.create_task(self._send(writer))
        names: set[str] = set()
        try:
            async for report in _reports(reader):
                names.add(report.gateway)
                self._demand[report.gateway] = report
        except (ConnectionError, ValueError, msgspec.DecodeError) as error:
            logger.warning("a gateway's line broke: %s", error)
        finally:
            self._connected.discard(task)
            for name in names:
                self._demand.pop(name, None)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError, TimeoutError):
                await sending
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        sent = -1
        while True:
            async with self._changed:
                while not self._published or self._table.version == sent:
                    await self._changed.wait()
                table = self._table
            writer.write(msgspec.json.encode(table) + b"\n")
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await writer.drain()
            sent = table.version


class RouteController:
    """Recomputes the RouteTable whenever a service or a pod changes."""

    name = "routes"

    def __init__(self, cache: Cache, feed: Feed, clock: Clock) -> None:
        """See `contracts/controller.py`."""
        self._cache = cache
        self._feed = feed
        self._clock = clock

    def watches(self) -> tuple[Watch, ...]:
        """Services and pods; and namespaces, which exist from the start: gateways want a table also where there is no service."""
        return (Watch(InferenceService, _all), Watch(Pod, _all), Watch(Namespace, _all))

    async def reconcile(self, key: Key) -> float | None:
        """One table for everything; a burst of changes makes one."""
        await self._clock.sleep(COALESCE_S)
        await self._feed.publish(service_routes(self._cache.list(InferenceService), self._cache.list(Pod)))
        return None


async def _reports(reader: asyncio.StreamReader) -> AsyncIterator[DemandReport]:
    decoder = msgspec.json.Decoder(DemandReport)
    while line := await reader.readline():
        yield decoder.decode(line)


def _all(obj: Resource) -> Iterable[Key]:
    return (ALL,)
