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

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one listener; times in seconds, sizes in bytes."""

    max_head_bytes: int = 65_536
    max_headers: int = 128
    max_body_bytes: int = 64 << 20
    max_connections: int = 10_000
    max_pipelined: int = 16
    idle_s: float = 75.0
    head_s: float = 15.0
    body_s: float = 120.0


@dataclass(slots=True)
class Request:
    """One request, whole. `target` is the path with its query as sent; `peer` is the client's address."""

    method: bytes
    target: bytes
    headers: Headers
    body: bytes
    keep_alive: bool
    peer: str

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


def end_to_end(headers: Headers) -> Headers:
    """The headers that a proxy passes on: not hop-by-hop, and not those that Connection names."""
    named = {
        part.strip().lower() for key, value in headers if key == b"connection" for part in value.split(b",")
    }
    return [item for item in headers if item[0] not in HOP_BY_HOP and item[0] not in named]


def status_line(status: int) -> bytes:
    """The first line of a response."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
