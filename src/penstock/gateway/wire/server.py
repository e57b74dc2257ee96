"""The client's side: an HTTP/1.1 server on asyncio.Protocol and llhttp (RFC 9112), strict and bounded.

One request is answered at a time on each connection; pipelined ones wait in order. A client that goes away cancels the task
that answers it. Ambiguous framing is refused with 400 and the connection is closed, since its end cannot be known.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable

import httptools

from penstock.gateway.wire.message import Headers, Limits, Request, status_line

Handler = Callable[[Request, "Responder"], Awaitable[None]]
logger = logging.getLogger(__name__)
SWEEP_S = 1.0


class Server:
    """All connections of one listener."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        """`handler` answers each request through the Responder that it is given."""
        self.handler = handler
        self.limits = limits
        self.connections: set[Connection] = set()
        self.draining = False
        self.refused: dict[str, int] = {}
        self._empty = asyncio.Event()

    def connection(self) -> Connection:
        """For `loop.create_server`."""
        return Connection(self)

    async def sweep(self) -> None:
        """Close what is idle or too slow, once a second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now = loop.time()
            for connection in tuple(self.connections):
                if connection.deadline and now > connection.deadline:
                    connection.expire()

    async def drain(self, limit_s: float) -> bool:
        """Let running requests end; whether all did within the limit. Idle connections close at once."""
        self.draining = True
        for connection in tuple(self.connections):
            connection.close_if_idle()
        self._check_empty()
        try:
            async with asyncio.timeout(limit_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        self._check_empty()

    def _check_empty(self) -> None:
        if self.draining and not self.connections:
            self._empty.set()

    def count_refusal(self, reason: str) -> None:
        """Requests that were refused before they reached the pipeline, by reason."""
        self.refused[reason] = self.refused.get(reason, 0) + 1


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._limits = server.limits
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._responder: Responder | None = None
        self._reading_paused = False
        self._broken = False
        self._open_message = False
        self.transport: asyncio.Transport
        self.writable = asyncio.Event()
        self.writable.set()
        self.on_pause: Callable[[bool], None] | None = None
        self.deadline = self._loop.time() + self._limits.idle_s
        self._reset()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._server.connections.add(self)
        if len(self._server.connections) > self._limits.max_connections:
            self._refuse(503, "too_many_connections", "the gateway has as many connections as it takes")

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(501, "upgrade_not_offered", "protocol upgrades are not offered here")
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _Refusal):
                self._refuse(cause.status, cause.reason, cause.message)
            else:
                self._refuse(400, "malformed_request", f"the request is not well-formed HTTP/1.1: {error}")

    def eof_received(self) -> bool:
        """A client that says no more has gone: a half-closed one looks the same, and engines work for nobody dearly."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.forget(self)
        self._broken = True
        self._waiting.clear()
        self.writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self.writable.clear()
        if self.on_pause:
            self.on_pause(True)

    def resume_writing(self) -> None:
        self.writable.set()
        if self.on_pause:
            self.on_pause(False)

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        self._reset()
        self._open_message = True
        if self._task is None:
            self.deadline = self._loop.time() + self._limits.head_s

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if len(self._headers) >= self._limits.max_headers:
            raise _Refusal(431, "too_many_headers", f"more than {self._limits.max_headers} header fields")
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        names = [name for name, _ in self._headers]
        if names.count(b"host") > 1 or (
            names.count(b"host") == 0 and self._parser.get_http_version() == "1.1"
        ):
            raise _Refusal(400, "bad_host", "exactly one Host header is required")
        if b"transfer-encoding" in names and (
            b"content-length" in names or names.count(b"transfer-encoding") > 1
        ):
            raise _Refusal(
                400, "ambiguous_framing", "Transfer-Encoding stands beside another statement of length"
            )
        if names.count(b"content-length") > 1:
            raise _Refusal(400, "ambiguous_framing", "Content-Length is given more than once")
        fields = dict(self._headers)
        length = fields.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limits.max_body_bytes:
            raise _Refusal(413, "body_too_large", self._too_large())
        if self._task is None:
            self.deadline = self._loop.time() + self._limits.body_s
        if fields.get(b"expect", b"").lower() == b"100-continue" and self._task is None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.max_body_bytes:
            raise _Refusal(413, "body_too_large", self._too_large())
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._open_message = False
        request = Request(
            method=self._parser.get_method(),
            target=bytes(self._target),
            headers=self._headers,
            body=self._body[0] if len(self._body) == 1 else b"".join(self._body),
            keep_alive=self._parser.should_keep_alive(),
            peer=self._peer,
        )
        self._reset()
        if self._task is None:
            self._start(request)
            return
        self._waiting.append(request)
        if len(self._waiting) >= self._limits.max_pipelined and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    # requests in order

    def _start(self, request: Request) -> None:
        self.deadline = 0.0
        self._responder = Responder(self, request)
        self._task = self._loop.create_task(self._answer(request, self._responder))

    async def _answer(self, request: Request, responder: Responder) -> None:
        try:
            await self._server.handler(request, responder)
        except asyncio.CancelledError:
            responder.abort()
        except Exception:
            logger.exception("a request failed: %s %s", request.method.decode(), request.path)
            responder.abort()
        self._finished(responder)

    def _finished(self, responder: Responder) -> None:
        self._task = self._responder = None
        self.on_pause = None
        if self._broken:
            return
        if not responder.keeps_alive or self._server.draining:
            self.transport.close()
            return
        self.deadline = self._loop.time() + self._limits.idle_s
        if self._waiting:
            self._start(self._waiting.popleft())
        if self._reading_paused and not self._waiting:
            self._reading_paused = False
            self.transport.resume_reading()

    def close_if_idle(self) -> None:
        """For draining."""
        if self._task is None and not self._waiting:
            self.transport.close()

    def cut(self) -> None:
        """End at once: what is under way is broken off, and may say so in its last words."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        else:
            self.transport.close()

    def expire(self) -> None:
        """Too slow, or idle for too long."""
        if self._open_message:
            self._refuse(408, "request_timeout", "the request did not arrive in time")
        else:
            self.transport.close()

    def _refuse(self, status: int, reason: str, message: str) -> None:
        """Answer what cannot be understood and close: where the next request would begin is unknown."""
        self._broken = True
        self._server.count_refusal(reason)
        if self._task is None and not self.transport.is_closing():
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": reason}
            body = json.dumps({"error": error}).encode()
            head = b"content-type: application/json\r\nx-request-id: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            number = secrets.token_hex(16).encode()
            self.transport.write(status_line(status) + head % (number, len(body)) + body)
        self.transport.close()

    def _reset(self) -> None:
        self._target = bytearray()
        self._headers: Headers = []
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.max_head_bytes:
            raise _Refusal(
                431, "head_too_large", f"request line and headers exceed {self._limits.max_head_bytes} bytes"
            )

    def _too_large(self) -> str:
        return f"the body exceeds {self._limits.max_body_bytes} bytes"


class Responder:
    """Writes one response. Without a length the body is chunked, for HTTP/1.0 ended by closing."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._no_body = request.method == b"HEAD"
        self._chunked = False
        self.started = False
        self.ended = False
        self.status = 0
        self.sent_bytes = 0
        self.keeps_alive = request.keep_alive

    def send(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole response."""
        self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        self.write(body)
        self.end()

    def start(self, status: int, headers: Headers) -> None:
        """The head; `headers` are end-to-end ones, a content-length among them if it is known."""
        self.started, self.status = True, status
        bodyless = status in (204, 304) or status < 200
        sized = any(name == b"content-length" for name, _ in headers)
        self._no_body = self._no_body or bodyless
        self._chunked = not sized and not self._no_body
        parts = [status_line(status)]
        parts.extend(b"%s: %s\r\n" % item for item in headers)
        if self._chunked:
            parts.append(b"transfer-encoding: chunked\r\n")
        if not self.keeps_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        self._connection.transport.write(b"".join(parts))

    def write(self, data: bytes) -> None:
        """A piece of the body, passed on as it is."""
        if not data or self._no_body or self._connection.transport.is_closing():
            return
        self.sent_bytes += len(data)
        if self._chunked:
            self._connection.transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            self._connection.transport.write(data)

    def end(self) -> None:
        """The body is complete."""
        self.ended = True
        if self._chunked and not self._connection.transport.is_closing():
            self._connection.transport.write(b"0\r\n\r\n")

    def abort(self) -> None:
        """Close without the body's end, so that the client sees that it is cut."""
        self.keeps_alive = False
        if not self.ended:
            self._connection.transport.close()

    def on_pause(self, callback: Callable[[bool], None]) -> None:
        """`callback(True)` when the client reads too slowly, `callback(False)` when it has caught up."""
        self._connection.on_pause = callback
        if not self._connection.writable.is_set():
            callback(True)


class _Refusal(Exception):
    """Raised inside llhttp's callbacks; httptools wraps it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
