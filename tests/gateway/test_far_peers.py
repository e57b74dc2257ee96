"""What gateways on several machines take from each other, over real sockets of this one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from gossip_world import Hand

from penstock.gateway.far_peers import (
    FRESH_S,
    MAX_DATAGRAM_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_PEERS,
    FarPeers,
    PeerAddress,
)
from penstock.kit.errors import InvalidInput, Unavailable

SECRET = b"of all gateways together"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


Pair = tuple[FarPeers, FarPeers, list[bytes]]


async def pair(secret: bytes = SECRET) -> Pair:
    clock = Hand()
    one, other = PeerAddress("127.0.0.1", free_port()), PeerAddress("localhost", free_port())
    a = FarPeers(one, [other], SECRET, clock)
    b = FarPeers(PeerAddress("127.0.0.1", other.port), [one], secret, clock)
    heard: list[bytes] = []
    b.subscribe("kind", lambda _, payload: heard.append(payload))
    for peers in (a, b):
        peers.open()
        await peers.resolve()
    return a, b, heard


@pytest.fixture
async def peers() -> AsyncIterator[Pair]:
    made = await pair()
    yield made
    made[0].close()
    made[1].close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)


async def test_peers_hear_each_other(peers: Pair) -> None:
    a, b, heard = peers
    assert a.broadcast("kind", b"x" * MAX_PAYLOAD_BYTES)
    assert a.broadcast("another kind", b"nobody reads it")
    assert a.broadcast("kind", b"second")
    await until(lambda: len(heard) == 2)
    assert heard == [b"x" * MAX_PAYLOAD_BYTES, b"second"]
    assert not any(b.faults.values())


async def test_what_was_not_signed_with_the_secret_is_not_heard() -> None:
    a, b, heard = await pair(b"another secret of others")
    a.broadcast("kind", b"hello")
    await until(lambda: b.forged == 1)
    assert not heard
    a.close()
    b.close()


async def test_no_bit_may_be_changed(peers: Pair) -> None:
    a, b, heard = peers
    said: list[bytes] = []
    body = a._encode((a._clock.now(), "kind", b"hello"))
    datagram = a._signature(body) + body
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for place in range(len(datagram)):
            said.append(datagram[:place] + bytes([datagram[place] ^ 1]) + datagram[place + 1 :])
        said += [b"", datagram[:10], datagram + b"x", b"\0" * (MAX_DATAGRAM_BYTES + 1)]
        for one in said:
            stranger.sendto(one, ("127.0.0.1", b.port))
            await asyncio.sleep(0)
        await until(lambda: b.forged == len(said))
        stranger.sendto(datagram, ("127.0.0.1", b.port))
        await until(lambda: len(heard) == 1)
    assert heard == [b"hello"]


async def test_what_was_signed_long_ago_is_not_heard(peers: Pair) -> None:
    a, b, heard = peers
    b._clock = Hand()
    b._clock.at += FRESH_S + 1
    a.broadcast("kind", b"old")
    await until(lambda: b.late == 1)
    assert not heard


async def test_what_cannot_be_read_is_counted(peers: Pair) -> None:
    a, b, _ = peers

    def refuse(sender: str, payload: bytes) -> None:
        raise msgspec.DecodeError("not this")

    b.subscribe("kind", refuse)
    a.broadcast("kind", b"hello")
    await until(lambda: b.malformed == 1)


async def test_a_peer_that_is_gone_is_no_hindrance(peers: Pair) -> None:
    a, b, heard = peers
    b.close()
    for _ in range(5):
        a.broadcast("kind", b"into the void")
        await asyncio.sleep(0.005)
    b.open()
    a.broadcast("kind", b"lost, perhaps")
    a.broadcast("kind", b"there again")
    await until(lambda: heard[-1:] == [b"there again"])


async def test_a_name_that_cannot_be_found_is_no_hindrance() -> None:
    peers = FarPeers(PeerAddress("127.0.0.1", 0), [PeerAddress("no-such-host.invalid", 1)], SECRET, Hand())
    peers.open()
    await peers.resolve()
    assert peers.broadcast("kind", b"to nobody")
    peers.close()


async def test_one_does_not_talk_to_oneself() -> None:
    own = PeerAddress("127.0.0.1", free_port())
    peers = FarPeers(own, [own], SECRET, Hand())
    peers.open()
    await peers.resolve()
    assert peers._addresses == ()
    peers.close()


def test_without_a_secret_nothing_is_bound() -> None:
    with pytest.raises(InvalidInput, match="has 5 bytes, expected at least 16"):
        FarPeers(PeerAddress("0.0.0.0", 7946), [], b"short", Hand())


def test_peers_are_bounded() -> None:
    peers = [PeerAddress("127.0.0.1", 1)] * (MAX_PEERS + 1)
    with pytest.raises(InvalidInput, match="65 peers"):
        FarPeers(PeerAddress("127.0.0.1", 0), peers, SECRET, Hand())


async def test_an_address_that_is_not_here_is_said() -> None:
    with pytest.raises(Unavailable, match=r"cannot listen for its peers at 192\.0\.2\.1:1"):
        FarPeers(PeerAddress("192.0.2.1", 1), [], SECRET, Hand()).open()
