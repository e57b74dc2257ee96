"""How many requests do these bytes hold? Asked of the gateway's own parser, and of h11, which shares no code with it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import h11

from penstock.gateway.wire.message import Limits, Request
from penstock.gateway.wire.responder import Responder
from penstock.gateway.wire.server import Server

LIMITS = Limits(max_body_bytes=1 << 20)
MAX_TURNS = 50


@dataclass(slots=True)
class Sight:
    """The whole requests, each method, target and body; whether what follows them was refused."""

    requests: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    refused: bool = False
    reason: str = ""
    closed: bool = False


class Wire(asyncio.Transport):
    """A transport into memory. What is written while it is closing is lost, as on a socket."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self._protocol = protocol
        self._closing = False
        self.paused = False
        self.written = bytearray()

    def write(self, data: Any) -> None:
        if not self._closing:
            self.written += data

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        return

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_reading(self) -> bool:
        return not self.paused

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return


async def ours(*pieces: bytes, server: Server | None = None) -> Sight:
    """The gateway's own reading of these bytes, coming in pieces; each request is answered at once.

    A `server` that has seen other bytes before must read these as a fresh one does.
    """
    sight = Sight()

    faults: list[Exception] = []

    def handler(request: Request, respond: Responder) -> None:
        try:
            sight.requests.append((request.head.method, request.head.target, request.body))
            respond.send(200, [], b"")
        except Exception as fault:
            faults.append(fault)
            raise

    server = server or Server(handler, LIMITS)
    server.handler = handler
    connection = server.connection()
    wire = Wire(connection)
    connection.connection_made(wire)
    for piece in pieces:
        for _ in range(MAX_TURNS):
            if not wire.paused:
                break
            await asyncio.sleep(0)
        if wire.is_closing():
            break
        connection.data_received(piece)
    answers = -1
    while answers != (answers := len(wire.written)):  # until nothing more is said
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not faults, faults
    text = bytes(wire.written)
    sight.refused = text.count(b"HTTP/1.1 ") - text.count(b"HTTP/1.1 100 ") > len(sight.requests)
    sight.reason = text.rpartition(b"HTTP/1.1 ")[2].decode("latin-1") if sight.refused else ""
    sight.closed = wire.is_closing()
    wire.close()
    await asyncio.sleep(0)
    return sight


def h11s(data: bytes) -> Sight:
    """What h11 reads, as a server that answers each request at once, with what `KNOWN` lists first taken out of its way."""
    sight = Sight()
    try:
        while not sight.closed and (data := _plain(data)):
            parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 17)
            parser.receive_data(data)
            request, body = parser.next_event(), bytearray()
            if not isinstance(request, h11.Request):
                break
            while isinstance(event := parser.next_event(), h11.Data):
                body += event.data
            if not isinstance(event, h11.EndOfMessage):
                break
            sight.requests.append((request.method, _ORIGIN.sub(b"", request.target, 1) or b"/", bytes(body)))
            data = parser.trailing_data[0]
            status = 405 if request.method == b"CONNECT" else 200
            parser.send(h11.Response(status_code=status, headers=[("content-length", "0")]))
            parser.send(h11.EndOfMessage())
            sight.closed = parser.our_state is h11.MUST_CLOSE
    except h11.RemoteProtocolError as error:
        sight.refused, sight.reason = True, str(error)
    return sight


KNOWN = {
    "empty lines before a request line": "R9112 2.2: a server SHOULD ignore them; h11 refuses",
    "several spaces between the parts of a request line": "R9112 3: MAY be taken for one, no boundary moves, and an engine gets one; h11 refuses",
    "an absolute target": "R9112 3.2.2: we say the path of it, h11 says it as it came",
    "a Content-Length of many zeros": "R9110 8.6: 1*DIGIT; h11 takes twenty digits at most, an engine gets the number written anew",
    "a request after one of HTTP/1.0 with keep-alive": "R9112 9.3: the connection lives when keep-alive is said; h11 always closes",
}
"""What we take and h11 does not, and why that does no harm."""
_LAX = re.compile(rb" {2}[^\r\n]*HTTP/|[^ \r\n]HTTP/|\tHTTP/|RTSP/|ICE/")
_ZEROS = re.compile(rb"(?i)\ncontent-length:[ \t]*0{3,}[0-9]{1,17}[ \t]*\r\n")
_BEGUN_PREFACE = re.compile(rb"PRI [^ \r\n]+ HTTP/[0-9]\.[0-9]\r\n\r\n(?:S|SM|SM\r|SM\r\n|SM\r\n\r)?\Z")
"""Of any version: llhttp waits for the rest of HTTP/2's preface and refuses it then; until it comes, saying nothing is right."""
_ORIGIN = re.compile(rb"^(?i:https?)://[^/?#]*")
_SPACES = re.compile(rb" {2,}")


def _plain(data: bytes) -> bytes:
    first, end, rest = data.lstrip(b"\r\n").partition(b"\r\n")
    return _SPACES.sub(b" ", first) + end + rest


def _lives_on(other: Sight, data: bytes) -> bool:
    return other.closed and b"HTTP/1.0" in data and b"keep-alive" in data.lower()


_LINE_REFUSED = "the request line is not that of HTTP/1.1"


def depends_on_packets(data: bytes) -> bool:
    """Whether a request line is one that is refused by our own check, which sees first lines of packets only.

    Behind another request in one packet the parser's laxer check holds: it takes several spaces for one (R9112 3: MAY), and it
    moves no boundary.
    """
    return _LAX.search(data) is not None


def agree(mine: Sight, again: Sight) -> bool:
    """Whether the same requests were seen of the same bytes. Our own check of request lines sees the first line of a packet, or of what
    was held: where one of the two was stopped by it, it has seen the beginning of what the other has.
    """
    shorter, longer = sorted((mine, again), key=lambda sight: len(sight.requests))
    if shorter.refused and _LINE_REFUSED in shorter.reason:
        return shorter.requests == longer.requests[: len(shorter.requests)]
    return mine.requests == again.requests


def difference(mine: Sight, other: Sight, data: bytes) -> str:
    """What we accept and the other does not, or sees otherwise; "" if there is nothing. To refuse more is no difference."""
    for place, request in enumerate(mine.requests):
        if place >= len(other.requests):
            if _lives_on(other, data) or (_ZEROS.search(data) and other.reason == "bad Content-Length"):
                return ""
            return f"we accept request {place} {request!r}; the other does not: {other.reason or 'waits or has closed'}"
        if request != other.requests[place]:
            return f"request {place} is {request!r} to us, {other.requests[place]!r} to the other"
    if not mine.refused and len(mine.requests) < len(other.requests) and not _BEGUN_PREFACE.search(data):
        return f"we say nothing where the other sees {other.requests[len(mine.requests)]!r}"
    return ""
