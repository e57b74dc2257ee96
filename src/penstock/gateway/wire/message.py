"""HTTP/1.1 messages as both sides of the gateway see them: header lists, and what may be passed on."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, in order of arrival."""

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
_NAMES_NOTHING = (b"keep-alive", b"close", b"Keep-Alive", b"Close")

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one listener; times in seconds, sizes in bytes. `max_buffered_bytes` holds for all bodies together."""

    max_head_bytes: int = 65_536
    max_headers: int = 128
    max_body_bytes: int = 64 << 20
    max_buffered_bytes: int = 1 << 30
    max_connections: int = 10_000
    max_connections_per_peer: int = 5_000
    max_pipelined_bytes: int = 65_536
    write_buffer_bytes: int = 65_536
    idle_s: float = 75.0
    head_s: float = 15.0
    body_s: float = 120.0


@dataclass(slots=True)
class Request:
    """One request, whole. `target` is the path with its query as sent; `peer` is the client's address.

    `upgrade` is the protocol that the client would rather speak on this connection, in lower case; b"" none.
    """

    method: bytes
    target: bytes
    headers: Headers
    body: bytes
    keep_alive: bool
    peer: str
    upgrade: bytes = b""
    is_tls: bool = False
    is_1_1: bool = True

    def header(self, name: bytes) -> bytes:
        """The first value of a header, or b""."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition(b"?")[0].decode("latin-1")


def named_by_connection(headers: Headers) -> frozenset[bytes]:
    """The further headers that Connection says are for this connection only."""
    values = [value for key, value in headers if key == b"connection" and value not in _NAMES_NOTHING]
    return (
        frozenset(part.strip().lower() for value in values for part in value.split(b","))
        if values
        else frozenset()
    )


def end_to_end(headers: Headers) -> Headers:
    """The headers that a proxy passes on: not hop-by-hop, and not those that Connection names."""
    named = named_by_connection(headers)
    return [item for item in headers if item[0] not in HOP_BY_HOP and item[0] not in named]


def status_line(status: int) -> bytes:
    """The first line of a response."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
