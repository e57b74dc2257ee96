"""A small HTTP/1.1 server for one engine, behind a gateway: keep-alive, sized and chunked bodies, streams of events.

A client that goes away cancels the task that answers it. Requests on one connection are answered one after another.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import httptools
import orjson

from penstock.kit.errors import InvalidInput, PlatformError, TooLarge

MAX_BODY_BYTES = 64 << 20
MAX_HEAD_BYTES = 64 << 10
MAX_PIPELINED = 16
LINGER_S = 1.0
Handler = Callable[["Exchange"], Awaitable[None]]
logger = logging.getLogger(__name__)


class Exchange:
    """One request and its answer. `fault` is what its header `x-penstock-fault` asks a simulated engine to do."""

    def __init__(
        self, connection: Connection, method: str, path: str, body: bytes, request_id: bytes, keep: bool
    ) -> None:
        self._connection = connection
        self.method = method
        self.path = path
        self.body = body
        self.request_id = request_id
        self.fault = ""
        self.keeps_alive = keep
        self.started = False
        self.ended = False

    def send(
        self,
        status: int,
        payload: Any,
        content_type: bytes = b"application/json",
        retry_after_s: float | None = None,
    ) -> None:
        """A whole answer; anything but bytes is written as JSON."""
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        fields = b"content-length: %d\r\n" % len(body)
        if retry_after_s is not None:
            fields += b"retry-after: %d\r\n" % math.ceil(retry_after_s)
        self._head(status, content_type, fields)
        if self.method != "HEAD":
            self._connection.write(body)
        self.ended = True

    def start_events(self) -> None:
        """A stream of server-sent events begins."""
        self._head(200, b"text/event-stream", b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n")

    def event(self, payload: Any) -> None:
        """One event: an object as JSON, or text as it is."""
        data = payload.encode() if isinstance(payload, str) else orjson.dumps(payload)
        line = b"data: " + data + b"\n\n"
        self._connection.write(b"%x\r\n%b\r\n" % (len(line), line))

    def end_events(self) -> None:
        """The stream is complete."""
        self._connection.write(b"0\r\n\r\n")
        self.ended = True

    def abort(self) -> None:
        """The connection is cut, whatever is under way."""
        self._connection.abort()

    async def drain(self) -> None:
        """Wait while the client reads too slowly."""
        await self._connection.writable.wait()

    def _head(self, status: int, content_type: bytes, length: bytes) -> None:
        self.started = True
        phrase = HTTPStatus(status).phrase.encode()
        parts = [b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\n" % (status, phrase, content_type), length]
        if self.request_id:
            parts.append(b"x-request-id: %b\r\n" % self.request_id)
        if not self.keeps_alive:
            parts.append(b"connection: close\r\n")
        self._connection.write(b"".join((*parts, b"\r\n")))


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, handler: Handler, live: set[Connection]) -> None:
        self._handler = handler
        self._live = live
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self.writable = asyncio.Event()
        self.closing = False
        self._refused = False
        self._too_large: TooLarge | None = None
        self._reset()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self._task is None

    def write(self, data: bytes) -> None:
        """Pass on, unless the client is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close once everything is written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = transport  # type: ignore[assignment]
        self.writable.set()
        self._live.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._live.discard(self)
        self.writable.set()
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._refused:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(self._too_large or InvalidInput("this is no HTTP/1.1", code="invalid_http"))

    def _refuse(self, error: PlatformError) -> None:
        """Nothing more is read as a request. What still comes is let in for a moment, or its sender would miss the answer."""
        self.closing = self._refused = True
        if self._task is None:
            refuse(Exchange(self, "POST", "", b"", self._request_id, keep=False), error)
            if self._transport is not None:
                self._transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self.close)

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._exceeds("head", MAX_HEAD_BYTES)
        match name.lower():
            case b"x-request-id":
                self._request_id = value
            case b"x-penstock-fault":
                self._fault = value.decode("latin-1")
            case b"content-length" if value.isdigit() and int(value) > MAX_BODY_BYTES:
                self._exceeds("body", MAX_BODY_BYTES)
            case b"expect":
                self._asks = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """See httptools."""
        if self._asks and self._task is None:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """See httptools."""
        self._body += data
        if len(self._body) > MAX_BODY_BYTES:
            self._exceeds("body", MAX_BODY_BYTES)

    def _exceeds(self, part: str, limit: int) -> None:
        self._too_large = TooLarge(f"the request's {part} has more than {limit} bytes")
        raise self._too_large

    def on_message_complete(self) -> None:
        """See httptools."""
        path = bytes(self._url).partition(b"?")[0].decode("latin-1")
        method = self._parser.get_method().decode()
        keep = self._parser.should_keep_alive()
        exchange = Exchange(self, method, path, bytes(self._body), self._request_id, keep)
        exchange.fault = self._fault
        self._reset()
        self._waiting.append(exchange)
        if len(self._waiting) > MAX_PIPELINED:
            self.close()
        elif self._task is None:
            self._next()

    def _next(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer(self._waiting.popleft()))

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._handler(exchange)
        except PlatformError as error:
            refuse(exchange, error)
        except RecursionError:
            refuse(exchange, InvalidInput("the body is nested too deeply", code="too_deep"))
        except Exception:
            logger.exception("a request failed: %s %s", exchange.method, exchange.path)
            refuse(exchange, PlatformError("the engine failed on this request"))
        self._task = None
        if not exchange.keeps_alive or not exchange.ended or self.closing:
            self.close()
        elif self._waiting:
            self._next()

    def _reset(self) -> None:
        self._url = bytearray()
        self._body = bytearray()
        self._head_bytes = 0
        self._request_id = b""
        self._fault = ""
        self._asks = False


def refuse(exchange: Exchange, error: PlatformError) -> None:
    """The error in OpenAI's shape: as the answer, or as the last event of a stream that had begun."""
    text = f"{error.message}; {error.hint}" if error.hint else error.message
    kinds = {404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    payload = {"error": {"message": text, "type": kind, "param": None, "code": error.code}}
    if not exchange.started:
        exchange.send(error.status, payload, retry_after_s=error.retry_after_s)
    elif not exchange.ended:
        exchange.event(payload)
        exchange.end_events()
