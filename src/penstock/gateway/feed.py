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

MAX_LINE_BYTES = 16 << 20
REPORT_EVERY_S = 1.0
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 1.0
logger = logging.getLogger(__name__)


class Feed:
    """Connects again for ever; `apply` gets each table, `report` makes each report."""

    def __init__(
        self,
        socket: Path,
        state: Path,
        clock: Clock,
        apply: Callable[[RouteTable], None],
        report: Callable[[float], DemandReport],
    ) -> None:
        """`report` is given the seconds since the last one."""
        self._socket = socket
        self._state = state
        self._clock = clock
        self._apply = apply
        self._report = report
        self._urgent = asyncio.Event()

    def wake(self) -> None:
        """Report now, not at the next second."""
        self._urgent.set()

    def load(self) -> bool:
        """Take the table that was kept on disk; whether there was one."""
        try:
            table = msgspec.json.decode(self._state.read_bytes(), type=RouteTable)
        except FileNotFoundError:
            return False
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("the kept route table %s cannot be used: %s", self._state, error)
            return False
        self._apply(table)
        return True

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket, limit=MAX_LINE_BYTES)
            except OSError:
                failures += 1
            else:
                failures = 1
                await self._converse(reader, writer)
            await self._clock.sleep(delay_s(failures, base_s=FIRST_RETRY_S, cap_s=LAST_RETRY_S))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reporting = asyncio.create_task(self._send(writer))
        decoder = msgspec.json.Decoder(RouteTable)
        try:
            while line := await reader.readline():
                table = decoder.decode(line)
                self._apply(table)
                await asyncio.to_thread(self._keep, line)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            logger.warning("the control plane's line broke: %s", error)
        finally:
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await reporting
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        last = self._clock.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_EVERY_S):
                    await self._urgent.wait()
            self._urgent.clear()
            now = self._clock.monotonic()
            writer.write(msgspec.json.encode(self._report(now - last)) + b"\n")
            last = now
            await writer.drain()

    def _keep(self, line: bytes) -> None:
        temporary = self._state.with_suffix(".new")
        try:
            temporary.write_bytes(line)
            os.replace(temporary, self._state)  # noqa: PTH105  the atomic one
        except OSError as error:
            logger.warning("the route table could not be kept in %s: %s", self._state, error)
