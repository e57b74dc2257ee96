"""The engine's side: pooled HTTP/1.1 connections on asyncio.Protocol and llhttp.

A body is passed on chunk by chunk as it arrives. Errors say how far a request had got, since that decides about a retry:
`NotSent` (no connection), `NoAnswer` (the connection ended before the first byte of an answer), `CutOff` (in the middle of one).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import httptools

from penstock.gateway.wire.message import Headers

Address = tuple[str, int]
CONNECT_TIMEOUT_S = 5.0
MAX_IDLE_PER_ENDPOINT = 256
MAX_IDLE_S = 30.0
MAX_HEAD_BYTES = 1 << 18


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


class Upstream(asyncio.Protocol):
    """One connection; one exchange at a time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.transport: asyncio.Transport
        self.idle_since = 0.0
        self.exchanges = 0
        self.status = 0
        self.headers: Headers = []
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[None] | None = None
        self._end: asyncio.Future[None] | None = None
        self._early: deque[bytes] = deque()
        self._sink: Callable[[bytes], None] | None = None
        self._head_bytes = 0
        self._skips_body = False
        self._until_close = False
        self.reusable = False
        self.closed = False

    async def exchange(self, data: bytes, *, is_head: bool = False) -> None:
        """Send a request; returns when the answer's head, and its first body byte or its end, are there."""
        self.status, self.headers, self.reusable = 0, [], False
        self._head_bytes, self._sink, self._skips_body, self._until_close = 0, None, is_head, False
        self._early.clear()
        self._answer = self._loop.create_future()
        self._end = self._loop.create_future()
        self._end.add_done_callback(_seen)
        self.exchanges += 1
        if self.closed:
            raise NoAnswer("the connection is closed", reused=self.exchanges > 1)
        self.transport.write(data)
        await self._answer

    async def copy_to(self, sink: Callable[[bytes], None]) -> None:
        """Pass the body to `sink` until it is complete. Raises CutOff."""
        assert self._end is not None
        while self._early:
            sink(self._early.popleft())
        self._sink = sink
        await self._end

    def pause(self, paused: bool) -> None:
        """Stop or resume reading, so that a slow client holds the engine back instead of filling memory."""
        if self.closed or self.transport.is_closing():
            return
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def abort(self) -> None:
        """Break the connection at once; the engine sees it and stops."""
        if not self.closed:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._answer is None or (self._end is not None and self._end.done()):
            self.transport.abort()  # an answer that nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"the engine's answer is not well-formed HTTP: {error}")
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._until_close and self._end is not None and not self._end.done() and exc is None:
            self._wake()
            self._end.set_result(None)
            return
        self._fail(f"the engine closed the connection{f': {exc}' if exc else ''}")

    # llhttp's callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self.headers = []
            return
        self.status = status
        names = {name for name, _ in self.headers}
        self._until_close = not names & {b"content-length", b"transfer-encoding"} and status not in (204, 304)
        if self._skips_body:
            self._complete()

    def on_body(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(data)
        else:
            self._early.append(data)
        self._wake()

    def on_message_complete(self) -> None:
        if self.status >= 200:
            self.reusable = self._parser.should_keep_alive() and not self._until_close
            self._complete()

    def _complete(self) -> None:
        self._wake()
        if self._end is not None and not self._end.done():
            self._end.set_result(None)

    def _wake(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def _fail(self, message: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer(message, reused=self.exchanges > 1))
        if self._end is not None and not self._end.done():
            self._end.set_exception(CutOff(message))


class Pool:
    """Idle connections by endpoint, the freshest first."""

    def __init__(self) -> None:
        """Empty."""
        self._idle: dict[Address, deque[Upstream]] = {}

    async def take(self, address: Address, *, fresh: bool = False) -> Upstream:
        """An idle connection, or a new one. Raises NotSent."""
        loop = asyncio.get_running_loop()
        idle = self._idle.get(address)
        while idle and not fresh:
            upstream = idle.pop()
            if not upstream.closed and loop.time() - upstream.idle_since < MAX_IDLE_S:
                return upstream
            upstream.abort()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, made = await loop.create_connection(lambda: Upstream(address), *address)
        except TimeoutError:
            raise NotSent(
                f"no connection to {address[0]}:{address[1]} within {CONNECT_TIMEOUT_S:g} s"
            ) from None
        except OSError as error:
            raise NotSent(f"no connection to {address[0]}:{address[1]}: {error.strerror or error}") from None
        return made

    def give(self, upstream: Upstream) -> None:
        """Put a connection back after an exchange, or close it if it cannot be used again."""
        idle = self._idle.setdefault(upstream.address, deque())
        if not upstream.reusable or upstream.closed or len(idle) >= MAX_IDLE_PER_ENDPOINT:
            upstream.abort()
            return
        upstream.idle_since = asyncio.get_running_loop().time()
        upstream.pause(False)
        idle.append(upstream)

    def keep(self, addresses: set[Address]) -> None:
        """Drop the connections of endpoints that are gone."""
        for address in [address for address in self._idle if address not in addresses]:
            for upstream in self._idle.pop(address):
                upstream.abort()

    def close(self) -> None:
        """Drop all."""
        self.keep(set())


def _seen(future: asyncio.Future[None]) -> None:
    """An answer that fails before anyone copies it has been reported already."""
    if not future.cancelled():
        future.exception()
