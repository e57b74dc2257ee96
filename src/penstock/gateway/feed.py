"""The gateway's side of the exchange: RouteTables in, DemandReports out (contracts/exchange.py).

The last table is kept on disk, so that a gateway that starts while the control plane is away serves at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from penstock.contracts.exchange import DemandReport, RouteTable
from penstock.kit.backoff import delay_s
from penstock.kit.clock import Clock
from penstock.kit.tasks import end

MAX_LINE_BYTES = 16 << 20
"""A longer table breaks the line."""
REPORT_EVERY_S = 1.0
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 1.0
UNREADABLE = (OSError, ValueError, RecursionError)
"""Of a line or file that is no RouteTable: msgspec's errors are ValueErrors, nesting without end is the last."""
logger = logging.getLogger(__name__)


class Feed:
    """Connects again for ever; `apply` gets each table and says whether it took it, `report` makes each report."""

    def __init__(
        self,
        socket: Path,
        state: Path,
        clock: Clock,
        apply: Callable[[RouteTable], bool],
        report: Callable[[float], DemandReport],
    ) -> None:
        """`report` is given the seconds since the last one."""
        self._socket = socket
        self._state = state
        self._clock = clock
        self._apply = apply
        self._report = report
        self._urgent = asyncio.Event()
        self._reported_at = clock.monotonic()
        self._tables = 0
        self._latest = b""
        self._to_keep = asyncio.Event()

    def wake(self) -> None:
        """Report now, not at the next second."""
        self._urgent.set()

    def load(self) -> bool:
        """Take the table that was kept on disk; whether there was one."""
        try:
            table = msgspec.json.decode(self._state.read_bytes(), type=RouteTable)
        except FileNotFoundError:
            return False
        except UNREADABLE as error:
            logger.warning("the kept route table %s cannot be used: %s", self._state, error)
            return False
        return self._apply(table)

    async def run(self) -> None:
        """Until cancelled."""
        keeping = asyncio.create_task(self._keep_latest(), name="the route table on disk")
        try:
            await self._connect()
        finally:
            await end((keeping,))

    async def _connect(self) -> None:
        """Again and again."""
        failures, away = 0, False
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket, limit=MAX_LINE_BYTES)
            except OSError as error:
                if not away:
                    logger.warning("the control plane cannot be reached at %s: %s", self._socket, error)
                failures, away = failures + 1, True
            else:
                logger.info("the control plane is connected")
                away = False
                failures = 1 if await self._converse(reader, writer) else failures + 1
            await self._clock.sleep(delay_s(failures, base_s=FIRST_RETRY_S, cap_s=LAST_RETRY_S))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Both directions, until either ends; whether a table came."""
        before = self._tables
        directions = (
            asyncio.create_task(self._receive(reader), name="the control plane's tables"),
            asyncio.create_task(self._send(writer), name="the gateway's reports"),
        )
        try:
            ended, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                if reason := task.result():
                    logger.warning("the control plane's line broke: %s", reason)
        finally:
            writer.transport.abort()  # first: who is cancelled while the directions end goes no further
            await end(directions)
        return self._tables > before

    async def _receive(self, reader: asyncio.StreamReader) -> str:
        """Take tables until the connection ends; why it ended, "" where the control plane left."""
        decoder = msgspec.json.Decoder(RouteTable)
        while True:
            try:
                line = await reader.readline()
                if not line:
                    return ""
                table = decoder.decode(line)
            except UNREADABLE as error:
                return str(error)
            self._tables += 1
            if self._apply(table):
                self._latest = line
                self._to_keep.set()

    async def _send(self, writer: asyncio.StreamWriter) -> str:
        """Report each second until the connection ends; why it ended. A window also spans the time without a connection."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_EVERY_S):
                    await self._urgent.wait()
            self._urgent.clear()
            now = self._clock.monotonic()
            report = self._report(now - self._reported_at)
            self._reported_at = now
            writer.write(msgspec.json.encode(report) + b"\n")
            try:
                await writer.drain()
            except OSError as error:
                return str(error)

    async def _keep_latest(self) -> None:
        """One table after the other, without those that another has replaced meanwhile: a disk that hangs holds up no table in memory."""
        while True:
            await self._to_keep.wait()
            self._to_keep.clear()
            await asyncio.to_thread(self._keep, self._latest)

    def _keep(self, line: bytes) -> None:
        """The table holds hashes of keys, so only its owner may read it; each worker of the folder writes its own draft."""
        draft = self._state.with_name(f"{self._state.name}.{os.getpid()}.new")
        try:
            try:
                with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(line)
                draft.replace(self._state)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("the route table could not be kept in %s: %s", self._state, error)
