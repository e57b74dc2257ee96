"""The client's side: all connections of one listener, what they may take together, and how they end."""

from __future__ import annotations

import asyncio

from penstock.gateway.wire.connection import Connection, Handler
from penstock.gateway.wire.message import Head, Known, Limits

SWEEP_S = 0.25


class Server:
    """`handler` is called with each request, and answers through the Responder at once or later."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        """Nobody is connected."""
        self.handler = handler
        self.limits = limits
        self.known: Known[Head] = Known()
        self.connections: set[Connection] = set()
        self.peers: dict[str, int] = {}
        self.buffered_bytes = 0
        self.draining = False
        self.refused: dict[str, int] = {}
        self._empty = asyncio.Event()

    def connection(self) -> Connection:
        """For `loop.create_server`."""
        return Connection(self)

    async def sweep(self) -> None:
        """Tell each connection whose time is up, four times a second, until cancelled.

        One pass over plain floats costs less than a timer for each request.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now = loop.time()
            for connection in [c for c in self.connections if 0.0 < c.deadline < now]:
                connection.expire()

    async def hand_over(self, within_s: float) -> None:
        """From now on each connection ends with its next answer; those that ask for nothing get this long to do so."""
        self.draining = True
        await self._emptied(within_s)

    async def drain(self, limit_s: float) -> bool:
        """Let running requests end; whether all did within the limit. Idle connections close at once."""
        self.draining = True
        for connection in tuple(self.connections):
            connection.close_if_idle()
        return await self._emptied(limit_s)

    async def _emptied(self, within_s: float) -> bool:
        self._check_empty()
        try:
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def admit(self, connection: Connection) -> str:
        """A connection is made; "" or why it is one too many."""
        self.connections.add(connection)
        of_peer = self.peers[connection.peer] = self.peers.get(connection.peer, 0) + 1
        if len(self.connections) > self.limits.max_connections:
            return "too_many_connections"
        return "too_many_connections_of_peer" if of_peer > self.limits.max_connections_per_peer else ""

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        left = self.peers.get(connection.peer, 0) - 1
        if left > 0:
            self.peers[connection.peer] = left
        else:
            self.peers.pop(connection.peer, None)
        self._check_empty()

    def count_refusal(self, reason: str) -> None:
        """Requests that were refused before they reached the handler, by reason."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _check_empty(self) -> None:
        if self.draining and not self.connections:
            self._empty.set()
