"""A head that came before is not parsed again. Nothing that either side sees may depend on that."""

from __future__ import annotations

import asyncio

import answers
import observers
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from observers import LIMITS
from shapes import pieces_of

from penstock.gateway.wire.message import MAX_KNOWN, MAX_KNOWN_BYTES, Answer, Head, Known
from penstock.gateway.wire.server import Server

pytestmark = pytest.mark.timeout(180)  # thousands of connections, all of which cost processor time
BOUNDED = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
BODIES = [
    b"",
    b"5",
    b"hello",
    b"\r\n\r\n",
    b"\r\nContent-Length: 7\r\n\r\n",
    SMUGGLED,
    SMUGGLED * 2,
    b"x" * 300,
]
LENGTHS = [b"Content-Length: %d", b"content-length: %d", b"Content-length: %d", b"CONTENT-LENGTH:%d", b"Content-Length: 0%d",
           b"Content-Length:  %d", b"Content-Length: %d ", b"X-Content-Length: 9\r\nContent-Length: %d",
           b"Content-Length: %d\r\nX-Strength: 12", b"Content-Length: %d\r\nX-Strength: 5", b"Content-Length: %d\r\nX-Length: 40"]  # fmt: skip
ODD_LENGTHS = [b"Content-Length: ", b"Content-Length: +%d", b"Content-Length: \x00", b"Content-Length: %d\r\ncontent-length: %d",
               b"content-length: 3\r\nContent-Length: %d", b"Content_Length: 3\r\nContent-Length: %d",
               b"Content-Length: %d\r\nTransfer-Encoding: chunked", b"Content-Length: 999999999999999999999%d"]  # fmt: skip
MORE = [
    b"",
    b"X: y\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"X_Y: z\r\n",
]
VERSIONS = [b"1.1", b"1.1", b"1.1", b"1.0"]


class Forgetful(Known[Head]):
    """Knows nothing, however much it has seen."""

    def add(self, key: bytes, head: Head, fields: int) -> None:
        return


class ForgetfulOfAnswers(Known[Answer]):
    def add(self, key: bytes, head: Answer, fields: int) -> None:
        return


@st.composite
def requests(draw: st.DrawFn, lengths: list[bytes] = LENGTHS) -> bytes:
    body = draw(st.sampled_from(BODIES))
    written = draw(st.sampled_from(lengths))
    head = b"%bPOST %b HTTP/%b\r\nHost: x\r\n%b%b\r\n\r\n" % (
        draw(st.sampled_from([b"", b"", b"\r\n", b"\r\n\r\n"])),
        draw(st.sampled_from([b"/p", b"/p?q=1"])),
        draw(st.sampled_from(VERSIONS)),
        draw(st.sampled_from(MORE)),
        written.replace(b"%d", b"%d" % len(body)),
    )
    without = b"GET /g HTTP/1.1\r\nHost: x\r\n\r\n"
    return draw(st.sampled_from([head + body, head + body, head + body, without]))


@st.composite
def engine_answers(draw: st.DrawFn) -> bytes:
    body = draw(st.sampled_from([*BODIES, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"]))
    head = b"HTTP/%b %b\r\n%b%b\r\n\r\n" % (
        draw(st.sampled_from(VERSIONS)),
        draw(
            st.sampled_from(
                [
                    b"200 OK",
                    b"200 OK",
                    b"204 No Content",
                    b"304 Not Modified",
                    b"503 Busy",
                    b"101 S",
                    b"100 C",
                ]
            )
        ),
        draw(
            st.sampled_from([b"", b"X: y\r\n", b"Connection: close\r\n", b"Transfer-Encoding: chunked\r\n"])
        ),
        draw(st.sampled_from(LENGTHS + ODD_LENGTHS)).replace(b"%d", b"%d" % len(body)),
    )
    interim = draw(
        st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\n"])
    )
    return interim + head + body + draw(st.sampled_from([b"", b"", b"", b"more", b"\r\n"]))


def server(*, remembers: bool) -> Server:
    made = Server(lambda request, respond: None, LIMITS)
    if not remembers:
        made.known = Forgetful()
    return made


async def seen(pieces: list[bytes], by: Server) -> tuple[object, ...]:
    sight = await observers.ours(*pieces, server=by)
    return sight.requests, sight.refused, sight.reason.partition("\r\n")[0], sight.closed


async def compare(sequences: list[list[bytes]]) -> int:
    """Each of the sequences of pieces on a connection of its own; how many heads were known in the end."""
    knowing, forgetful = server(remembers=True), server(remembers=False)
    for pieces in sequences:
        assert await seen(pieces, knowing) == await seen(pieces, forgetful), pieces
        assert knowing.buffered_bytes == forgetful.buffered_bytes == 0
    return len(knowing.known)


@BOUNDED
@given(st.data())
def test_requests_are_the_same_however_often_their_heads_came_and_however_they_are_cut(
    drawn: st.DataObject,
) -> None:
    several = drawn.draw(st.lists(requests(), min_size=1, max_size=5))
    together = b"".join(several)
    cut = drawn.draw(pieces_of(together))
    late = [piece for one in several for piece in (one[:-1], one[-1:])]
    asyncio.run(compare([several, cut, several, late, [together], cut]))


@BOUNDED
@given(st.data())
def test_what_is_refused_is_refused_though_a_head_like_it_is_known(drawn: st.DataObject) -> None:
    good = drawn.draw(st.lists(requests(), min_size=1, max_size=3))
    odd = drawn.draw(requests(ODD_LENGTHS))
    asyncio.run(compare([good, [*good, odd], [odd], [*good, odd, *good]]))


@BOUNDED
@given(st.lists(engine_answers(), min_size=1, max_size=4), st.booleans(), st.data())
def test_answers_are_the_same_however_often_their_heads_came(
    several: list[bytes], is_head: bool, drawn: st.DataObject
) -> None:
    async def check() -> None:
        knowing: Known[Answer] = Known()
        for data in [*several, *several]:
            for pieces in ([data], drawn.draw(pieces_of(data))):
                one = await answers.ours(*pieces, is_head=is_head, known=knowing)
                other = await answers.ours(*pieces, is_head=is_head, known=ForgetfulOfAnswers())
                assert one == other, (several, pieces)

    asyncio.run(check())


@pytest.mark.parametrize("cut", range(1, 5))
async def test_empty_lines_between_requests_may_be_cut_anywhere_whether_heads_are_known_or_not(
    cut: int,
) -> None:
    head, empty = b"GET /g HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n"
    pieces = [head + empty[:cut], empty[cut:] + head]
    await compare([pieces, pieces])
    sight = await observers.ours(*pieces)
    assert (len(sight.requests), sight.refused) == (2, False)


@pytest.mark.parametrize("length", LENGTHS[:2])
async def test_one_head_serves_requests_of_any_length(length: bytes) -> None:
    head = b"POST /p HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n"
    asked = [head.replace(b"%d", b"%d" % len(body)) + body for body in (b"a", b"ten bytes!", b"x" * 1000)]
    assert await compare([asked, asked[::-1]]) == 1


@pytest.mark.parametrize(
    "name", [b"X-Strength", b"X-Content-Length", b"Length", b"content_length", b"Content-Length-"]
)
async def test_only_the_length_itself_frames(name: bytes) -> None:
    head = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n" + name + b": %d\r\n\r\nhello"
    assert await compare([[head % 5], [head % 5], [head % 12 + SMUGGLED], [head % 0 + SMUGGLED]]) > 0


@pytest.mark.parametrize(
    "head",
    [
        b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        b"GET /p HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST /p HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
        b"GET /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /p HTTP/1.0\r\nHost: x\r\n\r\n",
        b"GET /p HTTP/1.1\r\nHost: x\r\nX: " + b"y" * MAX_KNOWN_BYTES + b"\r\n\r\n",
        b"GET /p HTTP/1.1\r\nX: y\r\n\r\n",
    ],
)
async def test_what_is_not_simply_sized_and_lasting_is_never_remembered(head: bytes) -> None:
    assert await compare([[head], [head]]) == 0


@pytest.mark.parametrize("status", [b"101 S", b"204 No Content", b"304 Not Modified"])
async def test_answers_without_a_body_of_their_own_are_never_remembered(status: bytes) -> None:
    known: Known[Answer] = Known()
    await answers.ours(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status, known=known)
    assert len(known) == 0


async def test_as_many_heads_are_remembered_as_are_allowed() -> None:
    known: Known[Head] = Known()
    for number in range(MAX_KNOWN + 5):
        head = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number
        known.add(head, Head(b"GET", b"/", [], keep_alive=True), 1)
        assert 0 < len(known) <= MAX_KNOWN
        assert known.find(head)[1] is not None
