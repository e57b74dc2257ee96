"""Writes one response, and knows what becomes of its client."""

from __future__ import annotations

import asyncio
from typing import Protocol

from penstock.gateway.wire.message import NO_TRAILER, Headers, Request, lines, status_line
from penstock.gateway.wire.tunnel import Tunnel

_BODILESS = (204, 304)
_CLOSE = b"connection: close\r\n\r\n"


class Watcher(Protocol):
    """Whoever answers a request is told what happens to it meanwhile."""

    def on_gone(self) -> None:
        """The client went away: nothing that is written reaches anybody."""

    def on_late(self) -> None:
        """The responder's deadline has passed."""

    def on_cut(self) -> None:
        """The gateway stops: say so if that is possible, and end now."""

    def on_pause(self, paused: bool) -> None:
        """The client reads too slowly (True), or has caught up (False)."""


class Line(Protocol):
    """The connection, as far as a response needs it."""

    transport: asyncio.Transport
    is_lost: bool
    is_write_paused: bool

    @property
    def is_ending(self) -> bool:
        """Whether the response under way is the connection's last."""

    def alarm(self, within_s: float) -> None:
        """Tell the watcher when that time has passed, 0 for never."""

    def finished(self) -> None:
        """The response is complete, or given up."""

    def switch(self, tunnel: Tunnel) -> bytes:
        """From now on the connection's bytes go through `tunnel`; what the client has sent ahead."""


class Responder:
    """One response. Without a length its body is chunked, for HTTP/1.0 ended by closing.

    `sent_bytes` counts the body.
    """

    __slots__ = (
        "_chunked",
        "_head",
        "_no_body",
        "_transport",
        "_until_close",
        "connection",
        "ended",
        "keeps_alive",
        "sent_bytes",
        "started",
        "status",
        "watcher",
    )

    def __init__(self, connection: Line, request: Request) -> None:
        self.connection = connection
        self._transport = connection.transport
        self._no_body = request.head.method == b"HEAD"
        self._until_close = not request.head.is_1_1
        self._chunked = False
        self._head = b""
        self.started = False
        self.ended = False
        self.status = 0
        self.sent_bytes = 0
        self.keeps_alive = request.head.keep_alive
        self.watcher: Watcher | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the client has gone."""
        return self.connection.is_lost

    def watch(self, watcher: Watcher, within_s: float) -> None:
        """Tell `watcher` from now on; also when that time has passed, 0 for never."""
        self.watcher = watcher
        self.connection.alarm(within_s)
        if self.connection.is_write_paused:
            watcher.on_pause(True)

    def send(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole response."""
        self.whole(status, status_line(status) + lines(headers), body)

    def whole(self, status: int, start: bytes, body: bytes) -> None:
        """A whole response, in one write. `start` is as in `begin`."""
        self.started = self.ended = True
        self.status = status
        connection, transport = self.connection, self._transport
        if not transport.is_closing():
            size = len(body)
            if self._no_body or status in _BODILESS:
                body = b""
            self.sent_bytes = len(body)
            end = b"\r\n" if self.keeps_alive and not connection.is_ending else _CLOSE
            transport.write(b"%bcontent-length: %d\r\n%b%b" % (start, size, end, body))
        connection.finished()

    def start(self, status: int, headers: Headers, length: int | None = None) -> None:
        """The head; `headers` are end-to-end ones, `length` is that of the body, None if it is not known."""
        self.begin(status, status_line(status) + lines(headers), length)

    def begin(self, status: int, start: bytes, length: int | None) -> None:
        """As `start`, of status line and header lines, each with its end."""
        self.started, self.status = True, status
        self._no_body = self._no_body or status in _BODILESS
        if length is not None:
            start += b"content-length: %d\r\n" % length
        elif not self._no_body:
            self._chunked = not self._until_close
            if self._chunked:
                start += b"transfer-encoding: chunked\r\n"
            else:
                self.keeps_alive = False
        lasts = self.keeps_alive and not self.connection.is_ending
        self._head = start + (b"\r\n" if lasts else _CLOSE)

    def write(self, data: bytes) -> None:
        """A piece of the body, passed on at once and as it is."""
        if self._no_body or not data or self._transport.is_closing():
            return
        size = len(data)
        self.sent_bytes += size
        if self._chunked:
            data = b"%b%x\r\n%b\r\n" % (self._head, size, data)
        elif self._head:
            data = self._head + data
        self._head = b""
        self._transport.write(data)

    def flush(self) -> None:
        """Send the head now, though no body has come."""
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = b""

    def end(self, trailers: Headers | None = None) -> None:
        """The body is complete. Trailers are passed on where the response is chunked and they may be such."""
        self.ended = True
        if not self._transport.is_closing():
            if self._chunked:
                self._transport.write(self._head + _last_chunk(trailers))
            elif self._head:
                self._transport.write(self._head)
        self._head = b""
        self.connection.finished()

    def abort(self) -> None:
        """Close without the body's end, so that the client sees that it is cut."""
        if self.ended:
            return
        self.ended = True
        self.keeps_alive = False
        self.flush()
        self.connection.finished()

    def upgrade(self, headers: Headers) -> None:
        """Switch protocols; from here on the connection's bytes belong to a Tunnel."""
        self.started, self.status, self.ended = True, 101, True
        self._transport.write(status_line(101) + lines(headers) + b"\r\n")


def _last_chunk(trailers: Headers | None) -> bytes:
    if not trailers:
        return b"0\r\n\r\n"
    return b"0\r\n" + lines([item for item in trailers if item[0] not in NO_TRAILER]) + b"\r\n"
