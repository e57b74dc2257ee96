"""The engine's side: one HTTP/1.1 connection on asyncio.Protocol and llhttp.

A body is passed on piece by piece as it arrives. Errors say how far a request had got, since that decides about a retry:
`NotSent` (no connection), `NoAnswer` (the connection ended before the first byte of an answer), `CutOff` (in the middle of one).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import httptools

from penstock.gateway.wire.message import Answer, Headers, Known

if TYPE_CHECKING:
    from penstock.gateway.wire.tunnel import Tunnel

Address = tuple[str, int]
MAX_HEAD_BYTES = 1 << 18
_SIZES = (b"content-length", b"transfer-encoding")
logger = logging.getLogger(__name__)


class UpstreamError(Exception):
    """Something went wrong between gateway and engine."""


class NotSent(UpstreamError):
    """No connection could be made."""


class NoAnswer(UpstreamError):
    """The connection ended, or broke HTTP, before an answer began. `reused`: it had been idle in the pool."""

    def __init__(self, message: str, *, reused: bool) -> None:
        super().__init__(message)
        self.reused = reused


class CutOff(UpstreamError):
    """The connection ended in the middle of an answer."""


class Exchange(Protocol):
    """Whoever sent a request is told of its answer, in this order: answer, data …, complete; or broken at any point.

    Most answers come in one piece: then of the whole at once, and nothing else.
    """

    def on_whole(self, upstream: Upstream, body: bytes) -> None:
        """All of the answer is there; `upstream` is free again."""

    def on_answer(self, upstream: Upstream) -> None:
        """The head is there, and the first piece of the body or its end."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body."""

    def on_complete(self) -> None:
        """The body is complete; `upstream.trailers` are there."""

    def on_broken(self, error: UpstreamError) -> None:
        """Nothing more comes. NoAnswer before `on_answer`, CutOff after it."""


class Upstream(asyncio.Protocol):
    """One connection; one exchange at a time."""

    def __init__(self, address: Address, known: Known[Answer]) -> None:
        self.address = address
        self.made_at = asyncio.get_running_loop().time()
        self.idle_since = 0.0
        self.exchanges = 0
        self.closed = False
        self.tunnel: Tunnel | None = None
        self._exchange: Exchange | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: Headers = []
        self.trailers: Headers = []
        self.answer: Answer | None = None
        self.length: int | None = None
        self._known = known
        self._key = b""
        self._expected_bytes = self._body_bytes = self._fields = 0
        self._is_fresh = True
        self.reusable = self._answered = self._complete = self._until_close = self._skips_body = False
        self._head_bytes = 0
        self._pieces: list[bytes] = []

    def send(self, data: bytes, exchange: Exchange, *, is_head: bool = False) -> None:
        """Send a whole request; `exchange` is told of the answer."""
        if not self._is_fresh:
            self._reset()
        self._skips_body = is_head
        self._exchange = exchange
        self.exchanges += 1
        if self.closed or self.transport.is_closing():
            self._broken("the connection is closed")
        else:
            self.transport.write(data)

    def pause(self, paused: bool) -> None:
        """Stop or resume reading, so that a slow client holds the engine back instead of filling memory."""
        if self.closed or self.transport.is_closing():
            return
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def leave(self) -> None:
        """Nobody waits for the answer any more: break the connection at once; the engine sees it and stops."""
        self._exchange = None
        self.abort()

    def abort(self) -> None:
        """Close without waiting for anything."""
        if not self.closed:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.from_engine(data)
            return
        if self._exchange is None:
            self.transport.abort()  # an answer that nobody asked for
            return
        if self._is_fresh:
            if self._is_known(data):
                return
            self._is_fresh = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._pieces.append(data[upgrade.args[0] :])
            self._complete = self.status == 101
            if not self._complete:
                self._break_off("the engine switched protocols without being asked")
                return
        except httptools.HttpParserError as error:
            self._deliver()
            self._break_off(f"the engine's answer is not well-formed HTTP: {error.__context__ or error}")
            return
        self._deliver()

    def _is_known(self, data: bytes) -> bool:
        """Whether a whole sized answer with a head that came before was taken."""
        key, answer, start, end = self._known.find(data)
        if answer is None or len(data) != end or self._skips_body:
            self._key, self._expected_bytes = key, end - start
            return False
        exchange, self._exchange = self._exchange, None
        assert exchange is not None, "data_received has looked"
        self.answer, self.length = answer, end - start
        self.reusable = (
            not self.transport.get_write_buffer_size()
        )  # else it answered before it had read the request
        exchange.on_whole(self, data[start:])
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.tunnel is not None:
            self.tunnel.engine_lost()
        elif self._until_close and exc is None and self.status:
            self._complete = True
            self._deliver()
        else:
            self._broken(f"the engine closed the connection{f': {exc}' if exc else ''}")

    def eof_received(self) -> bool:
        return self.tunnel.engine_eof() if self.tunnel is not None else False

    def pause_writing(self) -> None:
        if self.tunnel is not None:
            self.tunnel.pause_client(True)

    def resume_writing(self) -> None:
        if self.tunnel is not None:
            self.tunnel.pause_client(False)

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        if self._complete:
            self.reusable = False
            raise ValueError("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")
        name = name.lower()
        if not self.status:
            self.headers.append((name, value))
        elif name in _SIZES:
            raise ValueError(f"{name.decode()} is no trailer")
        else:
            self.trailers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 100:
            raise ValueError(f"found status {status:03d}, expected one from 100")
        if status < 200:
            self._key = b""
        if status < 200 and status != 101:
            if any(name in _SIZES for name, _ in self.headers):
                raise ValueError("an interim answer has no body")
            self.headers = []
            return
        self.status, self.length = status, None
        if status in (204, 304) or self._skips_body:
            self._complete, self._key = self._skips_body, b""
            self.answer = Answer(status, self.headers)
            for name, value in self.headers:
                if name == b"content-length":
                    self.length = int(value)
            return
        sized = False
        for name, value in self.headers:
            if name in _SIZES:
                if sized or (name == b"transfer-encoding" and value.lower() != b"chunked"):
                    raise ValueError("its length is stated in a way that others may read otherwise")
                sized = True
                self.length = int(value) if name == b"content-length" else None
        self._until_close = not sized
        if self.length is None:
            self._key = b""
        self.answer = Answer(status, self.headers)

    def on_body(self, data: bytes) -> None:
        if self._skips_body:
            return
        if self._key:
            self._body_bytes += len(data)
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self.status:
            self.reusable = (
                self._parser.should_keep_alive() and not self._until_close and not self._skips_body
            )
            self._complete = True
            if self._key and self.reusable:
                self._remember()

    def _remember(self) -> None:
        """Sized answers with a body, or without one because it is empty."""
        if self.answer is not None and self._body_bytes == self._expected_bytes:
            self._known.add(self._key, self.answer, self._fields)

    # what the exchange is told

    def _deliver(self) -> None:
        exchange = self._exchange
        if exchange is None or not (self._pieces or self._complete):
            return
        pieces, self._pieces = self._pieces, []
        if not self._answered:
            self._answered = True
            exchange.on_answer(self)
        for piece in pieces:
            if self._exchange is not exchange:
                return
            exchange.on_data(piece)
        if self._complete and self._exchange is exchange:
            self._exchange = None
            if self.reusable and self.transport.get_write_buffer_size():
                self.reusable = False  # it answered before it had read the request
            exchange.on_complete()

    def _break_off(self, message: str) -> None:
        self._broken(message)
        self.transport.abort()

    def _broken(self, message: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.on_broken(
                CutOff(message) if self._answered else NoAnswer(message, reused=self.exchanges > 1)
            )

    def _reset(self) -> None:
        """As before the first answer that the parser saw."""
        self.status = 0
        self.headers, self.trailers, self._pieces = [], [], []
        self.reusable = self._answered = self._complete = self._until_close = False
        self._head_bytes = self._fields = self._body_bytes = 0
        self._is_fresh, self._key, self.answer = True, b"", None
