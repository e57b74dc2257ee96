"""Bodies of large files: in pieces as large as the way to them is fast, over connections that are kept."""

import os
from collections.abc import Iterator
from http.client import IncompleteRead
from types import SimpleNamespace
from typing import Any

import pytest

from file_server import FileServer, file_server
from penstock.kit import http_ranges
from penstock.kit.errors import Unavailable

CONTENT = os.urandom(3_000_000)


class Body:
    """Endless; each byte takes so many seconds, on a clock of its own."""

    def __init__(self, seconds_per_byte: float) -> None:
        self.now = 0.0
        self._pace = seconds_per_byte

    def readinto(self, memory: memoryview) -> int:
        self.now += len(memory) * self._pace
        return len(memory)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        running.files["/m/model.bin"] = CONTENT
        yield running


def sizes_of(body: Body, count: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setattr(http_ranges, "time", SimpleNamespace(monotonic=lambda: body.now))
    answer: Any = SimpleNamespace(_fp=body)
    return [len(piece) for piece, _ in zip(http_ranges.pieces(answer), range(count), strict=False)]


def test_pieces_grow_where_they_come_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = sizes_of(Body(1e-9), 8, monkeypatch)
    assert sizes == sorted(sizes)
    assert sizes[-1] == http_ranges.MOST_PIECE_BYTES


def test_pieces_shrink_until_little_is_lost_with_a_slow_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = sizes_of(Body(1e-5), 8, monkeypatch)  # 100 kB/s
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] * 1e-5 <= http_ranges.LONG_S


def test_pieces_are_never_smaller_than_a_request_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    assert min(sizes_of(Body(1.0), 20, monkeypatch)) == http_ranges.LEAST_PIECE_BYTES


def test_all_pieces_use_the_same_memory(server: FileServer) -> None:
    with http_ranges.get(server.uri("/m/model.bin"), {}) as answer:
        memories = {id(piece.obj) for piece in http_ranges.pieces(answer)}
    assert len(memories) == 1


def test_the_connection_is_kept_once_a_body_was_read_to_its_end(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.keeps_connections = True
    callers = set()
    verify = server.verify_request
    monkeypatch.setattr(
        server, "verify_request", lambda request, address: callers.add(address) or verify(request, address)
    )
    for start in (0, 1_000_000, 2_000_000):
        headers = http_ranges.part_of(start, start + 1_000_000)
        with http_ranges.get(server.uri("/m/model.bin"), headers) as answer:
            body = b"".join(map(bytes, http_ranges.pieces(answer)))
        assert body == CONTENT[start : start + 1_000_000]
    assert len(callers) == 1


@pytest.mark.parametrize(
    "fault",
    [ConnectionResetError("reset"), TimeoutError("quiet"), IncompleteRead(b"")],
    ids=lambda e: type(e).__name__,
)
def test_a_connection_that_fails_is_said_by_its_kind_alone(fault: Exception) -> None:
    def fail(memory: memoryview) -> int:
        raise fault

    answer: Any = SimpleNamespace(_fp=SimpleNamespace(readinto=fail))
    with pytest.raises(Unavailable, match=f"the connection failed: {type(fault).__name__}$"):
        next(http_ranges.pieces(answer))
