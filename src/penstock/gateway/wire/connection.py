"""One client's connection: asyncio.Protocol over llhttp (RFC 9112), strict and bounded.

Requests are answered one at a time and in order. What a client sends ahead is kept as raw bytes up to a bound, then reading
pauses. Ambiguous framing is refused and the connection closed, since where the next request would begin is unknown; the
answers to requests before it are sent first.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import deque
from collections.abc import Callable
from typing import Protocol

import httptools

from penstock.gateway.wire.framing import (
    REQUEST_LINE,
    Refusal,
    check_head,
    check_trailer,
    check_upgrade,
    head_too_large,
    too_large,
)
from penstock.gateway.wire.message import Head, Headers, Known, Limits, Request, status_line
from penstock.gateway.wire.responder import Responder
from penstock.gateway.wire.tunnel import Tunnel

Handler = Callable[[Request, Responder], None]
logger = logging.getLogger(__name__)
LINGER_S = 2.0
"""How long a refused client may go on sending, so that it reads the answer before the connection is reset."""
FLUSH_S = 30.0
"""How long a client may take to read the rest of its last answer."""
UPGRADES = (b"websocket",)
MAX_CHUNK_OVERHEAD = 16
"""Bytes of framing per byte of body: a chunk of one byte has six, an extension of a kilobyte serves nobody."""
_HEAD, _BODY, _TRAILER = range(3)


class Listener(Protocol):
    """What all connections share. `buffered_bytes` counts the bodies that are held."""

    limits: Limits
    handler: Handler
    known: Known[Head]
    draining: bool
    buffered_bytes: int

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
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Request] = deque()
        self._held = b""
        self._responder: Responder | None = None
        self._refusal: Refusal | None = None
        self._advancing = self._reading_paused = self._open_message = self._expects = self._is_deaf = False
        self._request_bytes = self._overhead_bytes = 0
        self._line = self._key = b""
        self._expected_bytes = 0
        self.tunnel: Tunnel | None = None
        self.is_lost = self.is_write_paused = False
        self.deadline = self._loop.time() + self._limits.idle_s
        self._target, self._version, self._phase = b"", "", _HEAD
        self._headers: Headers = []
        self._head_bytes = self._body_bytes = self._fields = 0
        self._body: bytes | bytearray = b""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._is_tls = transport.get_extra_info("sslcontext") is not None
        self.transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes)
        if too_many := self._server.admit(self):
            self._refuse(Refusal(503, too_many, "the gateway has as many connections as it takes"))
            self._advance()

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.from_client(data)
        elif self._is_deaf:
            return
        elif self._responder is not None:
            self._hold(data)
        else:
            if self._open_message or self._line or not self._is_known(data):
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
        for request in self._ready:
            self._server.buffered_bytes -= len(request.body)
        self._server.buffered_bytes -= self._request_bytes + self._body_bytes
        self._request_bytes = self._body_bytes = 0
        self._ready.clear()
        self._held = b""
        if self.tunnel is not None:
            self.tunnel.client_lost()

    def pause_writing(self) -> None:
        self._paused(True)

    def resume_writing(self) -> None:
        self._paused(False)

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        self._begin()
        self._open_message = True
        if self._responder is None:
            self.deadline = self._loop.time() + self._limits.head_s

    def on_url(self, url: bytes) -> None:
        self._target = self._target + url if self._target else url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._count(len(name) + len(value) + 4)
        if b"_" in name:
            return  # some engines read it as "-", and so as a field that means something; nginx drops these too
        name = name.lower()
        if self._phase == _HEAD:
            if len(self._headers) >= self._limits.max_headers:
                raise Refusal(431, "too_many_headers", f"more than {self._limits.max_headers} header fields")
            self._headers.append((name, value.rstrip()))
        else:
            self._phase = _TRAILER
            check_trailer(name)

    def on_headers_complete(self) -> None:
        self._version = self._parser.get_http_version()
        self._target = check_head(
            self._parser.get_method(), self._target, self._version, self._headers, self._limits
        )
        if self._parser.should_upgrade():
            check_upgrade(self._headers)
        self._phase = _BODY
        if self._responder is None:
            self.deadline = self._loop.time() + self._limits.body_s
        for name, value in self._headers:
            if name == b"expect":
                if value.lower() != b"100-continue":
                    raise Refusal(417, "unknown_expectation", "the only Expect that is met is 100-continue")
                self._expects = self._version == "1.1"

    def on_body(self, data: bytes) -> None:
        self._overhead_bytes -= len(data)
        self._body_bytes += len(data)
        self._server.buffered_bytes += len(data)
        if self._body_bytes > self._limits.max_body_bytes:
            raise too_large(self._limits)
        if self._server.buffered_bytes > self._limits.max_buffered_bytes:
            raise Refusal(503, "too_many_bodies", "the gateway holds as many bytes of bodies as it takes")
        if not self._body:
            self._body = data
        else:  # one buffer, since a list of a million small pieces would weigh many times what it holds
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body.extend(data)

    def on_message_complete(self) -> None:
        self._open_message = self._expects = False
        self._overhead_bytes = 0
        head = Head(
            self._parser.get_method(),
            self._target,
            self._headers,
            self._parser.should_keep_alive(),
            self._version == "1.1",
        )
        if self._key:
            self._remember(head)
        self._ready.append(Request(head, bytes(self._body), self.peer, self._is_tls))
        self._body_bytes = 0

    def _remember(self, head: Head) -> None:
        """Heads of sized requests, of which the next one like it can be taken without the parser."""
        key, self._key = self._key, b""
        is_plain = not any(name in (b"transfer-encoding", b"expect", b"upgrade") for name, _ in head.headers)
        if is_plain and head.keep_alive and self._phase == _BODY and self._body_bytes == self._expected_bytes:
            self._server.known.add(key, head, self._fields)

    # requests in order

    def _is_known(self, data: bytes) -> bool:
        """Whether a whole request with a head that came before was taken."""
        if not data[:1].isupper():
            return False
        key, head, start, end = self._server.known.find(data)
        if head is None:
            self._key, self._expected_bytes = key, end - start
            return False
        size, limits = end - start, self._limits
        if (
            len(data) < end
            or size > limits.max_body_bytes
            or self._server.buffered_bytes + size > limits.max_buffered_bytes
        ):
            return False
        self._server.buffered_bytes += size
        self._ready.append(Request(head, data[start:end], self.peer, self._is_tls))
        self._held = data[end:]
        return True

    def _feed(self, data: bytes) -> None:
        if not self._open_message:
            data = self._from_first_line(data)
            if not data:
                return
        self._overhead_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._offered(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._malformed(error)
        if self._overhead_bytes > 2 * self._limits.max_head_bytes + MAX_CHUNK_OVERHEAD * self._body_bytes:
            self._refuse(
                Refusal(431, "head_too_large", "the request has too many bytes that are not its body")
            )

    def _from_first_line(self, data: bytes) -> bytes:
        """A request whose first line is whole and right; b"" until then, or if it is wrong."""
        is_begun = bool(self._line)
        data = self._line + data
        self._line = b""
        if REQUEST_LINE.match(data) is not None:
            return data
        rest = data.lstrip(b"\r\n")
        if b"\n" in rest or (rest and not rest[:1].isupper()):
            self._refuse(Refusal(400, "malformed_request", "the request line is not that of HTTP/1.1"))
        elif len(data) > self._limits.max_head_bytes:
            self._refuse(head_too_large(self._limits))
        else:
            self._line = data
            if rest and not is_begun:
                self.deadline = self._loop.time() + self._limits.head_s
        return b""

    def _malformed(self, error: httptools.HttpParserError) -> None:
        if self._ready and not self._ready[-1].head.keep_alive:
            return  # RFC 9112 9.6: what follows a request that closes the connection is ignored
        cause = error.__context__
        if not isinstance(cause, Refusal):
            cause = Refusal(400, "malformed_request", f"the request is not well-formed HTTP/1.1: {error}")
        self._refuse(cause)

    def _offered(self, rest: bytes) -> None:
        """The client would rather speak another protocol; if it may not, HTTP/1.1 goes on (RFC 9110 7.8)."""
        head = self._ready[-1].head
        protocol = head.header(b"upgrade").lower()
        head.upgrade = protocol if protocol in UPGRADES and head.is_1_1 else b""
        self._parser = httptools.HttpRequestParser(self)
        self._held = rest + self._held
        if head.method == b"CONNECT":
            self._ready.pop()
            self._refuse(
                Refusal(501, "connect_not_offered", "this is no forward proxy: CONNECT is not offered")
            )

    def _hold(self, data: bytes) -> None:
        self._held = self._held + data if self._held else data
        if len(self._held) >= self._limits.max_pipelined_bytes and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def _advance(self) -> None:
        """Start the next request, if none is under way. Handlers may answer at once, so this is a loop."""
        if self._advancing:
            return
        self._advancing = True
        while self._responder is None and not self.is_lost and self.tunnel is None:
            if self._ready:
                self._start(self._ready.popleft())
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
        if self._expects and not self._body and self._responder is None and self._refusal is None:
            self._expects = False
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
        responder.watcher = None  # or all three would be a cycle, which only the collector of garbage could free
        self._server.buffered_bytes -= self._request_bytes
        self._request_bytes = 0
        if self.is_lost:
            return
        if not responder.keeps_alive or self._server.draining:
            self._close()
            return
        limit_s = self._limits.head_s if self._open_message else self._limits.idle_s
        self.deadline = self._loop.time() + limit_s
        if self._held or self._ready or self._expects or self._refusal is not None:
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
        if self._responder is None and not self._ready and not self._open_message and self.tunnel is None:
            self.transport.close()

    def cut(self) -> None:
        """End at once: what is under way is broken off, and may say so in its last words."""
        self._ready.clear()
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
        elif (self._open_message or self._line) and not self._is_deaf:
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
                "type": "invalid_request_error",
                "param": None,
                "code": refusal.reason,
            }
            body = json.dumps({"error": error}).encode()
            head = b"content-type: application/json\r\nx-request-id: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            number = secrets.token_hex(16).encode()
            self.transport.write(status_line(refusal.status) + head % (number, len(body)) + body)
        self._close()

    def _begin(self) -> None:
        self._target = b""
        self._headers = []
        self._head_bytes = self._body_bytes = self._fields = 0
        self._body = b""
        self._phase = _HEAD

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.max_head_bytes:
            raise head_too_large(self._limits)
