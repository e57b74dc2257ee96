"""Asks starting endpoints whether they are ready, for as long as somebody waits for them.

The kubelet asks too, but at its own period, and its answer takes its way through the control plane. This gateway only believes what it was
told itself, and tells nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from penstock.contracts.exchange import Endpoint
from penstock.gateway.wire.pool import Pool

EVERY_S = 0.02
TIMEOUT_S = 1.0
"""Of one probe: an engine that loads its model may take connections and answer late."""
TOGETHER = 16
"""Endpoints that are each asked every 20 ms; more share that rate, so that probes never take more than a few percent of a core."""
MAX_STATUS_BYTES = 4096


class Probes:
    """One task for each endpoint that somebody waits for."""

    def __init__(self, pool: Pool, ready: Callable[[Endpoint], None]) -> None:
        """`ready` is called once for an endpoint that is; its way of connecting over TLS is the pool's."""
        self._pool, self._ready = pool, ready
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}

    def watch(self, endpoints: Iterable[Endpoint]) -> None:
        """Ask these from now on, and no others."""
        wanted = set(endpoints)
        for endpoint in [endpoint for endpoint in self._tasks if endpoint not in wanted]:
            self._tasks.pop(endpoint).cancel()
        for endpoint in wanted:
            if endpoint not in self._tasks:
                task = asyncio.create_task(self._ask(endpoint), name=f"probes of {endpoint.name}")
                self._tasks[endpoint] = task

    def close(self) -> None:
        """Ask nobody any more."""
        self.watch(())

    async def _ask(self, endpoint: Endpoint) -> None:
        while True:
            if await self._is_ready(endpoint):
                break
            await asyncio.sleep(EVERY_S * max(1.0, len(self._tasks) / TOGETHER))
        self._tasks.pop(endpoint, None)
        self._ready(endpoint)

    async def _is_ready(self, endpoint: Endpoint) -> bool:
        writer = None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                tls = self._pool.tls if endpoint.tls else None
                reader, writer = await asyncio.open_connection(
                    endpoint.address, endpoint.port, ssl=tls, limit=MAX_STATUS_BYTES
                )
                if not endpoint.probe_path:
                    return True
                writer.write(
                    f"GET {endpoint.probe_path} HTTP/1.1\r\nhost: {endpoint.address}:{endpoint.port}\r\n"
                    "user-agent: penstock-gateway\r\nconnection: close\r\n\r\n".encode()
                )
                return _says_ready(await reader.readline())
        except (OSError, ValueError):  # TimeoutError is one; ValueError: a status line without end
            return False
        finally:
            if writer is not None:
                with contextlib.suppress(OSError):
                    writer.transport.abort()


def _says_ready(status_line: bytes) -> bool:
    """As the kubelet judges: any status from 200 to 399."""
    parts = status_line.split(b" ", 2)
    return (
        len(parts) > 1
        and parts[0].startswith(b"HTTP/1.")
        and parts[1][:1] in (b"2", b"3")
        and len(parts[1].strip()) == 3
    )
