"""From a client's bytes to whole requests: llhttp (RFC 9112), strict and bounded.

Ambiguous framing is refused, since where the next request would begin is unknown. A request whose head came before, to the byte
but for its length, is taken without the parser: what the same bytes mean has been judged.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import httptools

from penstock.gateway.wire.framing import (
    REQUEST_LINE,
    UPGRADES,
    Refusal,
    check_head,
    check_trailer,
    declined,
    head_too_large,
    too_large,
)
from penstock.gateway.wire.message import Head, Headers, Known, Limits, Request

MAX_CHUNK_OVERHEAD = 16
"""Bytes of framing per byte of body: a chunk of one byte has six, an extension of a kilobyte serves nobody."""
_HEAD, _BODY, _TRAILER = range(3)


class Shared(Protocol):
    """What all connections share. `buffered_bytes` counts the bodies that are held."""

    limits: Limits
    known: Known[Head]
    buffered_bytes: int


class Source(Protocol):
    """The connection whose bytes are read."""

    peer: str
    is_tls: bool

    def arriving(self, within_s: float) -> None:
        """A part of a request is there; the next one is due within this time."""


class Reader:
    """Reads one connection. `ready` are the requests that are whole, in order; `is_open` says that another has begun, `expects` that its
    sender waits to be asked for the body.
    """

    def __init__(self, source: Source, shared: Shared) -> None:
        self._source, self._shared, self._limits = source, shared, shared.limits
        self._parser = httptools.HttpRequestParser(self)
        self.ready: deque[Request] = deque()
        self.is_open = self.expects = False
        self._overhead_bytes = self._expected_bytes = 0
        self._line = self._key = self._declined = b""
        self._target, self._version, self._phase = b"", "", _HEAD
        self._headers: Headers = []
        self._head_bytes = self._body_bytes = self._fields = 0
        self._body: bytes | bytearray = b""

    @property
    def is_amid(self) -> bool:
        """Whether a part of a request is there, and the rest is not."""
        return self.is_open or bool(self._line)

    def ask_on(self) -> bool:
        """Whether the client has to be told to send its body, which is so once."""
        asks, self.expects = self.expects and not self._body, False
        return asks

    def known(self, data: bytes) -> tuple[Request, bytes] | None:
        """The whole request that `data` begins with, and what follows it, if its head came before; else `feed` has to read it."""
        if self.is_open or self._line:
            return None
        shared, limits = self._shared, self._limits
        key, head, start, end = shared.known.find(data)
        size = end - start
        if head is None:
            self._key, self._expected_bytes = key, size
            return None
        buffered_bytes = shared.buffered_bytes + size
        if len(data) < end or size > limits.max_body_bytes or buffered_bytes > limits.max_buffered_bytes:
            return None
        shared.buffered_bytes = buffered_bytes
        return Request(head, data[start:end], self._source.peer, self._source.is_tls), data[end:]

    def feed(self, data: bytes) -> bytes:
        """Read on. Raises Refusal. What follows an offer to speak another protocol is not read, but returned."""
        if not self.is_open:
            data = self._from_first_line(data)
            if not data:
                return b""
        self._overhead_bytes += len(data)
        rest = b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            self._parser = httptools.HttpRequestParser(self)
            if self._declined:
                return self._feed_anew(rest)
            self._offered()
        except httptools.HttpParserError as error:
            self._malformed(error)
        if self._overhead_bytes > 2 * self._limits.max_head_bytes + MAX_CHUNK_OVERHEAD * self._body_bytes:
            raise Refusal(431, "head_too_large", "the request has too many bytes that are not its body")
        return rest

    def drop(self) -> None:
        """Give back what is held."""
        self._shared.buffered_bytes -= self._body_bytes + sum(len(request.body) for request in self.ready)
        self._body_bytes = 0
        self.ready.clear()

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        self._begin()
        self.is_open = True
        self._source.arriving(self._limits.head_s)

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
            self._declined = declined(self._parser.get_method(), self._target, self._version, self._headers)
        self._phase = _BODY
        self._source.arriving(self._limits.body_s)
        for name, value in self._headers:
            if name == b"expect":
                if value.lower() != b"100-continue":
                    raise Refusal(417, "unknown_expectation", "the only Expect that is met is 100-continue")
                self.expects = self._version == "1.1"

    def on_body(self, data: bytes) -> None:
        shared, limits = self._shared, self._limits
        self._overhead_bytes -= len(data)
        self._body_bytes += len(data)
        shared.buffered_bytes += len(data)
        if self._body_bytes > limits.max_body_bytes:
            raise too_large(limits)
        if shared.buffered_bytes > limits.max_buffered_bytes:
            raise Refusal(503, "too_many_bodies", "the gateway holds as many bytes of bodies as it takes")
        if not self._body:
            self._body = data
        else:  # one buffer, since a list of a million small pieces would weigh many times what it holds
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body.extend(data)

    def on_message_complete(self) -> None:
        self.is_open = False
        self._overhead_bytes = 0
        if self._declined:
            return
        self.expects = False
        head = Head(
            self._parser.get_method(),
            self._target,
            self._headers,
            self._parser.should_keep_alive(),
            self._version == "1.1",
        )
        if self._key:
            self._remember(head)
        self.ready.append(Request(head, bytes(self._body), self._source.peer, self._source.is_tls))
        self._body_bytes = 0

    def _remember(self, head: Head) -> None:
        """Heads of sized requests, of which the next one like it can be taken without the parser."""
        key, self._key = self._key, b""
        is_plain = not any(name in (b"transfer-encoding", b"expect", b"upgrade") for name, _ in head.headers)
        if is_plain and head.keep_alive and self._phase == _BODY and self._body_bytes == self._expected_bytes:
            self._shared.known.add(key, head, self._fields)

    def _begin(self) -> None:
        self._target, self._version, self._phase = b"", "", _HEAD
        self._headers = []
        self._head_bytes = self._body_bytes = self._fields = 0
        self._body = b""

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.max_head_bytes:
            raise head_too_large(self._limits)

    # what is not as it should be

    def _from_first_line(self, data: bytes) -> bytes:
        """A request whose first line is whole and right; b"" until then. Raises Refusal if it is wrong."""
        is_begun = bool(self._line)
        data = self._line + data
        self._line = b""
        if REQUEST_LINE.match(data) is not None:
            return data
        rest = data.lstrip(b"\r\n")
        if b"\n" in rest or (rest and not rest[:1].isupper()):
            raise Refusal(400, "malformed_request", "the request line is not that of HTTP/1.1")
        if len(data) > self._limits.max_head_bytes:
            raise head_too_large(self._limits)
        self._line = data
        if rest and not is_begun:
            self._source.arriving(self._limits.head_s)
        return b""

    def _malformed(self, error: httptools.HttpParserError) -> None:
        if self.ready and not self.ready[-1].head.keep_alive:
            return  # RFC 9112 9.6: what follows a request that closes the connection is ignored
        cause = error.__context__
        if not isinstance(cause, Refusal):
            cause = Refusal(400, "malformed_request", f"the request is not well-formed HTTP/1.1: {error}")
        raise cause

    def _offered(self) -> None:
        """The client would rather speak another protocol; if it may not, HTTP/1.1 goes on (RFC 9110 7.8)."""
        head = self.ready[-1].head
        protocol = head.header(b"upgrade").lower()
        head.upgrade = protocol if protocol in UPGRADES and head.is_1_1 else b""

    def _feed_anew(self, rest: bytes) -> bytes:
        """The same request without its offer."""
        head, self._declined, self._key = self._declined, b"", b""
        return self.feed(head + rest)
