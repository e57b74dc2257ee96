"""HTTP/1.1 messages as both sides of the gateway see them: header lists, and what may be passed on."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Generic, TypeVar

from msgspec import Struct

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, in order of arrival."""

WITH_BODY = (b"POST", b"PUT", b"PATCH")
"""Methods whose requests have a body, if only an empty one."""
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""RFC 9110 7.6.1: for one connection only."""
NO_TRAILER = HOP_BY_HOP | {
    b"content-length",
    b"host",
    b"authorization",
    b"content-encoding",
    b"content-type",
    b"set-cookie",
}
"""RFC 9110 6.5.1: fields that frame, route or authenticate a message may not come after it."""
MAX_KNOWN, MAX_KNOWN_BYTES = 1024, 8192
"""How many heads are remembered, and how long one may be."""
MIN_HEAD_BYTES = 18
"""`GET / HTTP/1.1` with its end of line, and the empty line: what is shorter is none."""
H = TypeVar("H")
MAX_DIGITS = 18
_LENGTH, _LOWER_LENGTH = b"\r\nContent-Length: ", b"\r\ncontent-length: "
_NAME_BYTES = len(_LENGTH)
"""As clients write it; a head that has it otherwise is found only as it is to the byte."""
_NAMES_NOTHING = (b"keep-alive", b"close", b"Keep-Alive", b"Close")

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one listener; times in seconds, sizes in bytes. `max_buffered_bytes` holds for all bodies together.

    One peer may have more connections than a service's waiting room has places: who comes in vain is told of the service.
    """

    max_head_bytes: int = 65_536
    """Request line and headers of one request; more is refused with head_too_large."""
    max_headers: int = 128
    """Headers of one request; more is refused with too_many_headers."""
    max_body_bytes: int = 64 << 20
    """Body of one request, and message of gRPC; more is refused with body_too_large."""
    max_buffered_bytes: int = 1 << 30
    """Bodies that are under way in a worker, together; more is refused with too_many_bodies."""
    max_connections: int = 20_000
    """Connections of a worker; one more is refused with too_many_connections, and closed."""
    max_connections_per_peer: int = 15_000
    """Connections of a worker from one address; one more is refused with too_many_connections_of_peer, and closed."""
    max_pipelined_bytes: int = 65_536
    """What a connection sends ahead while a request of it is answered; then it is not read from."""
    write_buffer_bytes: int = 65_536
    """What waits to be taken by a client; then its engine is not read from."""
    idle_s: float = 75.0
    """How long a connection may ask for nothing; then it is closed."""
    head_s: float = 15.0
    """How long a head may take; then the request is refused with request_timeout."""
    body_s: float = 120.0
    """How long a body may take; then the request is refused with request_timeout."""


@dataclass(slots=True)
class Head:
    """All of a request but its body. The same bytes always mean the same, so heads that come again are not parsed again.

    `target` is the path with its query as sent, `path` that without. `upgrade` is the protocol that the client would rather speak on this
    connection, in lower case; b"" none. `memo` is the handler's: what it has found out about this head.
    """

    method: bytes
    target: bytes
    headers: Headers
    keep_alive: bool
    is_1_1: bool = True
    upgrade: bytes = b""
    memo: object = None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition(b"?")[0].decode("latin-1")

    def header(self, name: bytes) -> bytes:
        """The first value of a header, or b""."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""


class Request(Struct, gc=False):
    """One request, whole. `peer` is the client's address."""

    head: Head
    body: bytes
    peer: str
    is_tls: bool = False


@dataclass(slots=True)
class Answer:
    """The head of an engine's answer. `media` is the type of its body, in lower case and without parameters. `memo` is as in Head."""

    status: int
    headers: Headers
    memo: object = None
    media: bytes = b""

    def __post_init__(self) -> None:
        for name, value in self.headers:
            if name == b"content-type":
                self.media = value.partition(b";")[0].strip().lower()


def named_by_connection(headers: Headers) -> frozenset[bytes]:
    """The further headers that Connection says are for this connection only."""
    values = [value for key, value in headers if key == b"connection" and value not in _NAMES_NOTHING]
    return (
        frozenset(part.strip().lower() for value in values for part in value.split(b","))
        if values
        else frozenset()
    )


def status_line(status: int) -> bytes:
    """The first line of a response."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def lines(headers: Headers) -> bytes:
    """Header lines, each with its end."""
    return b"".join([b"%b: %b\r\n" % item for item in headers])


class Known(Generic[H]):
    """Heads that have been parsed, by their bytes without the digits of Content-Length. All of a message is found in one piece.

    Only what the strict parser has taken gets in, so that what is found here has been judged.
    """

    def __init__(self) -> None:
        """None is known."""
        self._heads: dict[bytes, H] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, data: bytes) -> tuple[bytes, H | None, int, int]:
        """Key (b"" if there is none), the head if it is known, and where the body begins and ends. `data` begins with a head."""
        end = data.find(b"\r\n\r\n") + 4
        if end < MIN_HEAD_BYTES:
            return b"", None, 0, 0
        first = data.rfind(_LENGTH, 0, end)
        if first < 0:
            first = data.rfind(_LOWER_LENGTH, 0, end)
        if first < 0:
            key = data[:end]
            return key, self._heads.get(key), end, end
        first += _NAME_BYTES
        last = data.find(b"\r", first)
        digits = data[first:last]
        if not digits.isdigit() or last - first > MAX_DIGITS:
            return b"", None, 0, 0
        key = data[:first] + data[last:end]  # as a head whose length is empty, which is never looked for
        return key, self._heads.get(key), end, end + int(digits)

    def add(self, key: bytes, head: H, fields: int) -> None:
        """`fields` is how many header fields the parser saw: one head, and nothing else, has so many lines."""
        if len(key) > MAX_KNOWN_BYTES or key.count(b"\r\n") != fields + 2:
            return
        if len(self._heads) >= MAX_KNOWN:
            self._heads.clear()
        self._heads[key] = head
