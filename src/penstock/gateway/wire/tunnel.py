"""After a protocol switch (WebSocket, RFC 6455): bytes in both directions, unread, with back-pressure and half-close."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

FLUSH_S = 5.0
"""How long one side may take to read the rest after the other has gone."""


class Tunnel:
    """Between a client's transport and an engine's. `ended(up_bytes, down_bytes)` is called once, when both are closed."""

    def __init__(
        self,
        client: asyncio.Transport,
        engine: asyncio.Transport,
        ended: Callable[[int, int], None],
    ) -> None:
        self._client = client
        self._engine = engine
        self._ended = ended
        self._open = 2
        self._eofs = 0
        self.up_bytes = 0
        self.down_bytes = 0

    def from_client(self, data: bytes) -> None:
        """Bytes for the engine."""
        self.up_bytes += len(data)
        if data and not self._engine.is_closing():
            self._engine.write(data)

    def from_engine(self, data: bytes) -> None:
        """Bytes for the client."""
        self.down_bytes += len(data)
        if data and not self._client.is_closing():
            self._client.write(data)

    def pause_client(self, paused: bool) -> None:
        """The engine reads too slowly."""
        _pause(self._client, paused)

    def pause_engine(self, paused: bool) -> None:
        """The client reads too slowly."""
        _pause(self._engine, paused)

    def client_eof(self) -> bool:
        """The client says no more; whether its transport stays open for the other direction."""
        return self._eof(self._engine)

    def engine_eof(self) -> bool:
        """The engine says no more; whether its transport stays open for the other direction."""
        return self._eof(self._client)

    def client_lost(self) -> None:
        """The client's transport is closed."""
        self._lost(self._engine)

    def engine_lost(self) -> None:
        """The engine's transport is closed."""
        self._lost(self._client)

    def _eof(self, other: asyncio.Transport) -> bool:
        self._eofs += 1
        if self._eofs > 1 or other.is_closing() or not other.can_write_eof():
            _close(other)
            return False
        other.write_eof()
        return True

    def _lost(self, other: asyncio.Transport) -> None:
        self._open -= 1
        if not other.is_closing():
            _close(other)
        if not self._open:
            self._ended(self.up_bytes, self.down_bytes)


def _close(transport: asyncio.Transport) -> None:
    """Once what was written is read; a peer that does not read it in time would keep the tunnel open for ever."""
    transport.close()
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(FLUSH_S, transport.abort)


def _pause(transport: asyncio.Transport, paused: bool) -> None:
    if transport.is_closing():
        return
    if paused:
        transport.pause_reading()
    else:
        transport.resume_reading()
