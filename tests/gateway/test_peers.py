"""Workers speak to each other over real Unix sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from penstock.gateway.peers import MAX_PAYLOAD_BYTES, Peers
from penstock.kit.errors import InvalidInput

TRIES = 4000


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Peers, Peers]]:
    pair = Peers(tmp_path / "workers", "1"), Peers(tmp_path / "workers", "2")
    for peers in pair:
        await peers.open()
    yield pair
    for peers in pair:
        peers.close()


async def until(heard: list[tuple[str, bytes]], count: int) -> None:
    for _ in range(TRIES):
        if len(heard) >= count:
            return
        await asyncio.sleep(0.005)


async def test_what_one_says_the_other_hears_and_itself_does_not(two: tuple[Peers, Peers]) -> None:
    a, b = two
    heard: list[tuple[str, bytes]] = []
    for peers in two:
        peers.subscribe("greeting", lambda sender, payload: heard.append((sender, payload)))
    assert a.broadcast("greeting", b"hello")
    assert a.broadcast("nobody listens", b"")
    assert b.broadcast("greeting", bytes(MAX_PAYLOAD_BYTES))
    await until(heard, 2)
    assert sorted(heard, key=lambda item: len(item[1])) == [
        (a.id, b"hello"),
        (b.id, bytes(MAX_PAYLOAD_BYTES)),
    ]


async def test_the_folder_is_its_owners_alone_and_left_empty(tmp_path: Path) -> None:
    peers = Peers(tmp_path / "workers", "1")
    await peers.open()
    assert (tmp_path / "workers").stat().st_mode & 0o777 == 0o700
    assert len(list((tmp_path / "workers").iterdir())) == 2
    peers.close()
    assert list((tmp_path / "workers").iterdir()) == []


async def test_the_socket_of_a_dead_worker_is_removed(two: tuple[Peers, Peers], tmp_path: Path) -> None:
    dead = tmp_path / "workers" / "3.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(str(dead))
    assert dead.exists()
    assert two[0].broadcast("greeting", b"hello")
    assert not dead.exists()


async def test_a_worker_takes_over_the_files_of_a_dead_one_of_its_name(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(str(tmp_path / "1.sock"))
    peers = Peers(tmp_path, "1")
    await peers.open()
    peers.close()


async def test_what_cannot_be_read_is_counted_and_harms_nobody(
    two: tuple[Peers, Peers], tmp_path: Path
) -> None:
    a, b = two
    heard: list[tuple[str, bytes]] = []

    def strict(sender: str, payload: bytes) -> None:
        heard.append((sender, msgspec.msgpack.decode(payload, type=bytes)))

    b.subscribe("greeting", strict)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.connect(str(tmp_path / "workers" / "2.sock"))
        for junk in (b"", b"junk", bytes(60_000), msgspec.msgpack.encode(["x", 1])):
            stranger.send(junk)
    a.broadcast("greeting", b"\xc1")
    await asyncio.sleep(0.01)
    a.broadcast("greeting", msgspec.msgpack.encode(b"fine"))
    await until(heard, 1)
    assert heard == [(a.id, b"fine")]
    assert b.malformed == 5


async def test_a_peer_that_does_not_listen_is_told_of_and_never_waited_for(two: tuple[Peers, Peers]) -> None:
    a, _ = two
    sent = 0
    while a.broadcast("greeting", b"hello") and sent < 100_000:
        sent += 1
    assert a.unheard == 1


async def test_gathering_asks_every_worker_that_knows_the_answer(two: tuple[Peers, Peers]) -> None:
    a, b = two
    b.answer("metrics", lambda: bytes(1 << 20))
    assert await a.gather("metrics", 30.0) == [bytes(1 << 20)]
    assert await b.gather("metrics", 30.0) == []
    assert await a.gather("unknown", 30.0) == []


async def test_gathering_leaves_out_who_is_too_slow(two: tuple[Peers, Peers], tmp_path: Path) -> None:
    a, b = two
    b.answer("metrics", lambda: b"2")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(tmp_path / "workers" / "0.ask"))
        silent.listen()
        async with asyncio.timeout(30):
            assert await a.gather("metrics", 0.5) == [b"2"]


async def test_a_path_that_no_socket_can_have_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="longer than the 107 bytes"):
        await Peers(tmp_path / ("x" * 100), "1").open()


async def test_a_worker_is_asked_about_something(two: tuple[Peers, Peers]) -> None:
    a, b = two
    b.answer_about("length", lambda about: str(len(about)).encode())
    b.answer("name", lambda: b"b")
    assert await a.gather("length", 30.0, "two words") == [b"9"]
    assert await a.gather("length", 30.0) == [b"0"]
    assert await a.gather("name", 30.0) == [b"b"]
