"""The same bytes through several parsers: we never accept what another refuses, nor see another number of requests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from observers import LIMITS, agree, depends_on_packets, difference, h11s, ours
from shapes import near_requests, pieces_of
from test_smuggling import VECTORS

from penstock.gateway.wire.server import Server

CORPUS = sorted((Path(__file__).parents[1] / "corpus" / "server").glob("*"))
pytestmark = pytest.mark.timeout(180)  # thousands of connections, all of which cost processor time
BOUNDED = settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def check(data: bytes) -> None:
    found = difference(asyncio.run(ours(data)), h11s(data), data)
    assert not found, f"{found}\n{data!r}"


@pytest.mark.parametrize("name", VECTORS)
def test_the_table_means_the_same_to_h11(name: str) -> None:
    check(VECTORS[name].data)


def test_the_kept_corpus_means_the_same_to_h11() -> None:
    assert CORPUS
    for path in CORPUS:
        check(path.read_bytes())


@BOUNDED
@given(near_requests())
def test_near_requests_mean_the_same_to_h11(data: bytes) -> None:
    check(data)


@settings(BOUNDED, max_examples=300)
@given(st.data())
def test_how_the_network_cuts_the_bytes_changes_nothing(drawn: st.DataObject) -> None:
    data = drawn.draw(near_requests())
    pieces = drawn.draw(pieces_of(data))
    whole, cut = asyncio.run(ours(data)), asyncio.run(ours(*pieces))
    assert agree(whole, cut) or depends_on_packets(data), data


async def test_a_head_without_the_digits_of_a_known_one_is_another_head() -> None:
    server = Server(lambda request, respond: None, LIMITS)
    sized = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    for _ in range(2):
        assert (await ours(sized, server=server)).requests
        empty = await ours(sized.replace(b"5", b""), server=server)
        assert not empty.requests
        assert empty.refused


@settings(BOUNDED, max_examples=150)
@given(st.lists(near_requests(max_changes=1), min_size=2, max_size=5))
def test_what_a_server_has_seen_before_changes_nothing(several: list[bytes]) -> None:
    async def check() -> None:
        server = Server(lambda request, respond: None, LIMITS)
        for data in [*several, *several]:
            fresh, used = await ours(data), await ours(data, server=server)
            assert agree(fresh, used) or depends_on_packets(data), data
        assert not server.connections
        assert not server.buffered_bytes

    asyncio.run(check())
