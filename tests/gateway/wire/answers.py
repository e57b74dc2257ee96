"""What answer do these bytes of an engine hold? Asked of the gateway's own client, and of h11."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import h11
from observers import Wire

from penstock.gateway.wire.client import Upstream, UpstreamError
from penstock.gateway.wire.message import Answer as Head
from penstock.gateway.wire.message import Known

_ODD_REASON = re.compile(r"illegal status line: bytearray\(b['\"]HTTP/1\.[01] [1-9][0-9]{2} ")

_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n")


@dataclass(slots=True)
class Answer:
    """`complete`: the body's end was there. `reusable`: the connection may carry another exchange."""

    status: int = 0
    body: bytes = b""
    complete: bool = False
    broken: str = ""
    reusable: bool = False


class Listener:
    """Notes what the client tells, and fails on an order that makes no sense."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.ended = False

    def on_whole(self, upstream: Upstream, body: bytes) -> None:
        self.on_answer(upstream)
        self.on_data(body)
        self.on_complete()

    def on_answer(self, upstream: Upstream) -> None:
        assert not self.answer.status, "two answers"
        assert not self.ended, "an answer after the end"
        assert upstream.answer is not None
        self.answer.status = upstream.answer.status

    def on_data(self, data: bytes) -> None:
        assert self.answer.status, "a body before the head"
        assert not self.ended, "a body after the end"
        self.answer.body += data

    def on_complete(self) -> None:
        assert self.answer.status, "an end before the head"
        assert not self.ended, "two ends"
        self.ended = self.answer.complete = True

    def on_broken(self, error: UpstreamError) -> None:
        assert not self.ended, "two ends"
        self.ended, self.answer.broken = True, str(error) or "broken"


async def ours(*pieces: bytes, is_head: bool = False, known: Known[Head] | None = None) -> Answer:
    """The gateway's reading of an answer that comes in pieces, after which the engine closes.

    Heads that are `known` from before change nothing.
    """
    listener = Listener()
    upstream = Upstream(("127.0.0.1", 1), Known() if known is None else known)
    wire = Wire(upstream)
    upstream.connection_made(wire)
    upstream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", listener, is_head=is_head)
    for piece in pieces:
        if not wire.is_closing():
            upstream.data_received(piece)
    listener.answer.reusable = listener.answer.complete and upstream.reusable and not wire.is_closing()
    if not wire.is_closing():
        wire.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert listener.ended, "it waits though the connection has ended"
    return listener.answer


def h11s(data: bytes, *, is_head: bool = False) -> Answer:
    """What h11 reads, as a client whose server closes after these bytes."""
    answer = Answer()
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 19)
    parser.send(h11.Request(method="HEAD" if is_head else "GET", target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    try:
        if plain := _without_empty_lines(data):
            parser.receive_data(plain)
        parser.receive_data(b"")
        while not isinstance(event := parser.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
            if isinstance(event, h11.Response):
                answer.status = event.status_code
            elif isinstance(event, h11.Data):
                answer.body += event.data
            elif event in (h11.NEED_DATA, h11.PAUSED):
                return answer
        answer.complete = isinstance(event, h11.EndOfMessage)
        answer.reusable = parser.their_state is h11.DONE and not parser.trailing_data[0].strip(b"\r\n")
    except h11.RemoteProtocolError as error:
        answer.broken = str(error)
    return answer


def _without_empty_lines(data: bytes) -> bytes:
    """Empty lines before a status line, also that behind an interim answer, move no boundary; llhttp takes them, h11 does not."""
    interim, rest = b"", data.lstrip(b"\r\n")
    while found := _INTERIM.match(rest):
        interim, rest = interim + found[0], rest[found.end() :].lstrip(b"\r\n")
    return interim + rest


def difference(mine: Answer, other: Answer) -> str:
    """Where we take an answer for whole that the other reads otherwise. To take less for whole is no difference."""
    if not mine.complete or mine.status == 101:
        return ""
    if not other.complete and not mine.reusable and not mine.body:
        return ""  # nothing but a status was taken from it, and the connection is given up
    if _ODD_REASON.match(other.broken):
        return ""  # a reason phrase is not passed on, whatever bytes are in it
    if not other.complete:
        return f"whole to us ({mine.status}, {mine.body!r}), not to the other: {other.broken or 'it waits'}"
    if (mine.status, mine.body) != (other.status, other.body):
        return f"({mine.status}, {mine.body!r}) to us, ({other.status}, {other.body!r}) to the other"
    if mine.reusable and not other.reusable:
        return "reusable to us, not to the other"
    return ""
