"""Idle connections to engines, by endpoint: the freshest first, none for longer than an engine keeps it."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from math import inf

from penstock.gateway.wire.client import Address, NotSent, Upstream, UpstreamError
from penstock.gateway.wire.message import Answer, Known

CONNECT_TIMEOUT_S = 5.0
MAX_CONNECTING = 64
"""Connections to one address that are being made at the same time: less than an engine's backlog, which is often 100. Others queue."""
MAX_IDLE_PER_ENDPOINT = 256
MAX_IDLE_S = 4.0
"""Uvicorn closes what is idle for 5 s; a connection that is about to be closed is not worth the race."""
MAX_AGE_S = 600.0
"""A long-lived connection would never notice that its address now means another machine."""


class Pool:
    """One per worker."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """`tls` verifies engines that speak HTTPS; the system's authorities by default. `on_refused` is told where nobody listens."""
        self._idle: dict[Address, deque[Upstream]] = {}
        self._gates: dict[Address, _Gate] = {}
        self._tls = tls
        self.on_refused: Callable[[Address], None] = lambda _: None
        self.known: Known[Answer] = Known()
        self._connecting: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def take(self, address: Address) -> Upstream | None:
        """An idle connection that may be used again, None if there is none."""
        idle = self._idle.get(address)
        while idle:
            upstream = idle.pop()
            now = self._loop.time()
            if (
                not upstream.closed
                and now - upstream.idle_since < MAX_IDLE_S
                and now - upstream.made_at < MAX_AGE_S
            ):
                return upstream
            upstream.abort()
        return None

    def connect(
        self,
        address: Address,
        made: Callable[[Upstream], None],
        failed: Callable[[UpstreamError], None],
        *,
        is_tls: bool = False,
        is_fresh: bool = False,
    ) -> None:
        """One of the two is called, later, with a new connection; or, unless it must be fresh, with one that became idle meanwhile."""
        task = self._loop.create_task(self._connect(address, made, failed, is_tls, is_fresh))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def give(self, upstream: Upstream) -> None:
        """Put a connection back after an exchange, or close it if it cannot be used again."""
        idle = self._idle.get(upstream.address)
        if idle is None:
            idle = self._idle[upstream.address] = deque()
        if not upstream.reusable or upstream.closed or len(idle) >= MAX_IDLE_PER_ENDPOINT:
            upstream.abort()
            return
        upstream.idle_since = self._loop.time()
        idle.append(upstream)

    def keep(self, addresses: set[Address]) -> None:
        """Drop the connections of endpoints that are gone."""
        for address in [address for address in self._idle if address not in addresses]:
            for upstream in self._idle.pop(address):
                upstream.abort()
        self._gates = {address: gate for address, gate in self._gates.items() if address in addresses}

    def prune(self) -> None:
        """Close what has been idle for too long, so that sockets do not pile up after a burst."""
        now = self._loop.time()
        for idle in self._idle.values():
            while idle and (idle[0].closed or now - idle[0].idle_since >= MAX_IDLE_S):
                idle.popleft().abort()

    def close(self) -> None:
        """Drop all."""
        for task in self._connecting:
            task.cancel()
        self.keep(set())

    async def _connect(
        self,
        address: Address,
        made: Callable[[Upstream], None],
        failed: Callable[[UpstreamError], None],
        is_tls: bool,
        is_fresh: bool,
    ) -> None:
        began = self._loop.time()
        gate = self._gates.get(address)
        if gate is None:
            gate = self._gates[address] = _Gate()
        async with gate.places:
            upstream = None if is_fresh else self.take(address)
            if upstream is not None:
                made(upstream)
            elif gate.late_at >= began:
                failed(_late(address))
            else:
                await self._make(address, gate, made, failed, is_tls)

    async def _make(
        self,
        address: Address,
        gate: _Gate,
        made: Callable[[Upstream], None],
        failed: Callable[[UpstreamError], None],
        is_tls: bool,
    ) -> None:
        where = f"{address[0]}:{address[1]}"
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, upstream = await self._loop.create_connection(
                    lambda: Upstream(address, self.known), *address, ssl=self.tls if is_tls else None
                )
        except TimeoutError:
            gate.late_at = self._loop.time()
            failed(_late(address))
        except ssl.SSLCertVerificationError as error:
            failed(NotSent(f"the certificate of {where} is not trusted: {error.verify_message}"))
        except OSError as error:
            if isinstance(error, ConnectionRefusedError):
                self.on_refused(address)
            failed(NotSent(f"no connection to {where}: {error.strerror or error}"))
        else:
            made(upstream)

    @property
    def tls(self) -> ssl.SSLContext:
        """What engines that speak HTTPS are verified with."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


class _Gate:
    """Who connects to one address at the same time. Those who queued when one gave up at `late_at` need not try the same."""

    __slots__ = ("late_at", "places")

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(MAX_CONNECTING)
        self.late_at = -inf


def _late(address: Address) -> NotSent:
    return NotSent(f"no connection to {address[0]}:{address[1]} within {CONNECT_TIMEOUT_S:g} s")
