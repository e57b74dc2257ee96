"""One client's connection, from its first byte to its end: requests are answered one at a time and in order.

What a client sends ahead is kept as raw bytes up to a bound, then reading pauses. After a request that is refused the connection
closes; the answers to requests before it are sent first.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable
from typing import Protocol

from penstock.gateway.wire.framing import Refusal
from penstock.gateway.wire.message import Request, status_line
from penstock.gateway.wire.reader import Reader, Shared
from penstock.gateway.wire.responder import Responder
from penstock.gateway.wire.tunnel import Tunnel

Handler = Callable[[Request, Responder], None]
logger = logging.getLogger(__name__)
LINGER_S = 2.0
"""How long a refused client may go on sending, so that it reads the answer before the connection is reset."""
RETRY_AFTER = b"retry-after: 1\r\n"
FLUSH_S = 30.0
"""How long a client may take to read the rest of its last answer."""


class Listener(Shared, Protocol):
    """What all connections share."""

    handler: Handler
    draining: bool

    def admit(self, connection: Connection) -> str:
        """A connection is made; "" or why it is one too many."""

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""

    def count_refusal(self, reason: str) -> None:
        """A request was refused before it reached the handler."""


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Listener) -> None:
        self._server = server
        self._limits = server.limits
        self._reader = Reader(self, server)
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self._responder: Responder | None = None
        self._refusal: Refusal | None = None
        self._advancing = self._reading_paused = self._is_deaf = False
        self._request_bytes = 0
        self.tunnel: Tunnel | None = None
        self.is_lost = self.is_write_paused = False
        self.deadline = self._loop.time() + self._limits.idle_s

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self.is_tls = transport.get_extra_info("sslcontext") is not None
        self.transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes)
        if too_many := self._server.admit(self):
            self._refuse(Refusal(503, too_many, "the gateway has as many connections as it takes"))
            self._advance()

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.from_client(data)
        elif self._responder is not None:
            self._hold(data)
        elif not self._is_deaf and not self.is_lost:
            found = self._reader.known(data)
            if found is not None:
                request, self._held = found
                self._start(request)
            else:
                self._feed(data)
                self._advance()

    def eof_received(self) -> bool:
        """A client that says no more has gone: a half-closed one looks the same, and engines work for nobody dearly."""
        if self.tunnel is not None:
            return self.tunnel.client_eof()
        self._gone()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.forget(self)
        self._gone()
        self._reader.drop()
        self._server.buffered_bytes -= self._request_bytes
        self._request_bytes = 0
        self._held = b""
        if self.tunnel is not None:
            self.tunnel.client_lost()

    def pause_writing(self) -> None:
        self._paused(True)

    def resume_writing(self) -> None:
        self._paused(False)

    # requests in order

    def arriving(self, within_s: float) -> None:
        """A part of a request is there; the next one is due within this time."""
        if self._responder is None:
            self.deadline = self._loop.time() + within_s

    def _feed(self, data: bytes) -> None:
        try:
            rest = self._reader.feed(data)
        except Refusal as refusal:
            self._refuse(refusal)
        else:
            if rest:
                self._held = rest + self._held

    def _hold(self, data: bytes) -> None:
        self._held = self._held + data if self._held else data
        if len(self._held) >= self._limits.max_pipelined_bytes and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def _advance(self) -> None:
        """Start the next request, if none is under way. Handlers may answer at once, so this is a loop."""
        if self._advancing:
            return
        self._advancing, reader = True, self._reader
        while self._responder is None and not self.is_lost and self.tunnel is None:
            if reader.ready:
                self._start(reader.ready.popleft())
            elif self._refusal is not None:
                self._send_refusal(self._refusal)
                break
            elif self._held:
                data, self._held = self._held, b""
                if self._reading_paused:
                    self._reading_paused = False
                    self.transport.resume_reading()
                self._feed(data)
            else:
                break
        self._advancing = False
        if reader.expects and self._responder is None and self._refusal is None and reader.ask_on():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _start(self, request: Request) -> None:
        self.deadline = 0.0
        self._request_bytes = len(request.body)
        responder = self._responder = Responder(self, request)
        try:
            self._server.handler(request, responder)
        except Exception:
            logger.exception("a request failed: %s %s", request.head.method.decode(), request.head.path)
            responder.abort()

    def finished(self) -> None:
        """The response is complete, or given up."""
        responder, self._responder = self._responder, None
        assert responder is not None
        responder.watcher = None  # or all three would be a cycle, for the collector of garbage
        self._server.buffered_bytes -= self._request_bytes
        self._request_bytes = 0
        if self.is_lost:
            return
        if not responder.keeps_alive or self._server.draining:
            self._close()
            return
        reader, limits = self._reader, self._limits
        self.deadline = self._loop.time() + (limits.head_s if reader.is_open else limits.idle_s)
        if self._held or reader.ready or reader.expects or self._refusal is not None:
            self._advance()

    @property
    def is_ending(self) -> bool:
        """Whether the response under way is the connection's last."""
        return self._server.draining

    def alarm(self, within_s: float) -> None:
        """Tell the watcher when that time has passed, 0 for never."""
        self.deadline = self._loop.time() + within_s if within_s else 0.0

    def switch(self, tunnel: Tunnel) -> bytes:
        """From now on the connection's bytes go through `tunnel`; what the client has sent ahead."""
        self.tunnel, self.deadline, self._responder = tunnel, 0.0, None
        held, self._held = self._held, b""
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
        return held

    # how it ends

    def close_if_idle(self) -> None:
        """For draining: what is not in the middle of a request closes."""
        if (
            self._responder is None
            and not self._reader.ready
            and not self._reader.is_amid
            and self.tunnel is None
        ):
            self.transport.close()

    def cut(self) -> None:
        """End at once: what is under way is broken off, and may say so in its last words."""
        self._reader.drop()
        if self._responder is not None and self._responder.watcher is not None:
            self._responder.watcher.on_cut()
        else:
            self.transport.close()

    def expire(self) -> None:
        """Its time is up: too slow to send or to read, idle, or unanswered."""
        self.deadline = 0.0
        if self.transport.is_closing():
            self.transport.abort()
        elif self._responder is not None:
            if self._responder.watcher is not None:
                self._responder.watcher.on_late()
        elif self._reader.is_amid and not self._is_deaf:
            self._refuse(Refusal(408, "request_timeout", "the request did not arrive in time"))
            self._advance()
        elif self._is_deaf:
            self.transport.abort()
        else:
            self._close()

    def _close(self) -> None:
        """A client that still sends would have its answer destroyed by a reset, so what it sends is read a while longer."""
        self.is_lost = True
        if (self._held or self._is_deaf) and self.transport.can_write_eof():
            self._is_deaf = True
            self._held = b""
            if not self.transport.is_closing():
                self.transport.write_eof()
            self.deadline = self._loop.time() + LINGER_S
            return
        self.deadline = self._loop.time() + FLUSH_S
        self.transport.close()

    def _gone(self) -> None:
        self.is_lost = True
        responder = self._responder
        if responder is not None and responder.watcher is not None and not responder.ended:
            responder.watcher.on_gone()

    def _paused(self, paused: bool) -> None:
        self.is_write_paused = paused
        if self.tunnel is not None:
            self.tunnel.pause_engine(paused)
        elif self._responder is not None and self._responder.watcher is not None:
            self._responder.watcher.on_pause(paused)

    # refusals

    def _refuse(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._is_deaf = True
        self._held = b""
        self._server.count_refusal(refusal.reason)

    def _send_refusal(self, refusal: Refusal) -> None:
        if not self.transport.is_closing():
            error = {
                "message": str(refusal),
                "type": "server_error" if refusal.status >= 500 else "invalid_request_error",
                "param": None,
                "code": refusal.reason,
            }
            body = json.dumps({"error": error}).encode()
            head = b"content-type: application/json\r\nx-request-id: %s\r\ncontent-length: %d\r\n%sconnection: close\r\n\r\n"
            number, again = secrets.token_hex(16).encode(), RETRY_AFTER if refusal.status == 503 else b""
            self.transport.write(status_line(refusal.status) + head % (number, len(body), again) + body)
        self._close()
