"""What bad messages, many messages and many gateways do to a gateway: nothing."""

from __future__ import annotations

import msgspec
import pytest
from gossip_world import PODS, Gateway, Hand, chain, exchange, gateways
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.gateway.gossip import BURST_S, BYTES_PER_S, EXCHANGE_S
from penstock.gateway.gossip_codec import Insert, Message, Tally, encode, packed
from penstock.gateway.gossip_inbox import FORGOTTEN_S, MAX_GATEWAYS
from penstock.gateway.gossip_outbox import MAX_UNHEARD
from penstock.gateway.shares import NONE, Counts


@pytest.fixture
def clock() -> Hand:
    return Hand()


def test_what_is_told_stays_within_its_bound(clock: Hand) -> None:
    a, b = gateways(2, clock)
    told = 0
    for _ in range(40):
        for _ in range(100):
            a.send("pod-0", chain(100))
        clock.at += EXCHANGE_S
        told += sum(map(len, a.say()))
        b.wire.hear("wire", encode(Message("gateway-1", 1 << 50, round(clock.at * 1000), [], [], [], [], [])))
    assert told <= BYTES_PER_S * (40 * EXCHANGE_S + BURST_S)
    assert told > BYTES_PER_S * 40 * EXCHANGE_S * 0.9


def test_nothing_grows_while_nobody_listens(clock: Hand) -> None:
    alone = Gateway("alone", clock)
    chains = [chain(10) for _ in range(3 * MAX_UNHEARD)]
    for one in chains:
        alone.ended(alone.send("pod-0", one))
        clock.at += EXCHANGE_S
        alone.say()
    assert alone.gossip.faults["gossip_pushed_out"] == 0
    late = Gateway("late", clock)
    exchange([alone, late], 60)
    assert [bool(late.held(one)) for one in chains] == [False] * (2 * MAX_UNHEARD) + [True] * MAX_UNHEARD


def test_as_many_gateways_are_known_as_there_may_be(clock: Hand) -> None:
    (a,) = gateways(1, clock)
    (pod,) = (place for place in a.gossip._inbox.places if a.gossip._inbox.places[place].name == "pod-0")
    for number in range(3 * MAX_GATEWAYS):
        tally = Tally(pod, 1, 1, 10, 0)
        a.wire.hear("wire", encode(Message(f"g{number}", 1, 1, [tally], [], [], [], [])))
    assert a.load("pod-0") == Counts(MAX_GATEWAYS, MAX_GATEWAYS, MAX_GATEWAYS * 10, 0)
    assert a.gossip.gateways == MAX_GATEWAYS
    clock.at += FORGOTTEN_S + 1
    a.say()
    assert a.load("pod-0") == NONE
    assert a.gossip.gateways == 0


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x97",
        msgspec.msgpack.encode(["x" * 65, 1, 1, [], [], [], [], []]),
        msgspec.msgpack.encode(["", 1, 1, [], [], [], [], []]),
        msgspec.msgpack.encode(["g", -1, 1, [], [], [], [], []]),
        msgspec.msgpack.encode(["g", 1, 1, [[1, -1, 0, 0, 0]], [], [], [], []]),
        msgspec.msgpack.encode(["g", 1, 1, [[1, 1 << 40, 0, 0, 0]], [], [], [], []]),
        msgspec.msgpack.encode(["g", 1, 1, [], [[1, 0, 0, b"odd"]], [], [], []]),
        msgspec.msgpack.encode(["g", 1, 1, [], [[1, 0, 1 << 20, b""]], [], [], []]),
        msgspec.msgpack.encode({"place": "g"}),
    ],
)
def test_what_is_no_message_is_refused(clock: Hand, payload: bytes) -> None:
    (a,) = gateways(1, clock)
    with pytest.raises(msgspec.DecodeError):
        a.wire.hear("wire", payload)
    a.say()
    assert all(a.load(pod) == NONE for pod in PODS)


def test_a_later_version_may_say_more(clock: Hand) -> None:
    (a,) = gateways(1, clock)
    (pod,) = (place for place in a.gossip._inbox.places if a.gossip._inbox.places[place].name == "pod-0")
    a.wire.hear(
        "wire", msgspec.msgpack.encode(["g", 1, 1, [[pod, 1, 1, 9, 0, "new"]], [], [], [], [], "new"])
    )
    assert a.load("pod-0") == Counts(1, 1, 9, 0)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_do_harm(noise: bytes) -> None:
    (a,) = gateways(1, Hand())
    try:
        a.wire.hear("wire", noise)
    except msgspec.DecodeError:
        return


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1 << 63), st.integers(0, 50), st.lists(st.integers(0, (1 << 64) - 1), max_size=20)
        ),
        max_size=20,
    ),
    st.lists(st.integers(0, 1 << 63), max_size=20),
)
def test_no_message_does_harm(inserts: list[tuple[int, int, list[int]]], missing: list[int]) -> None:
    a, b = among = gateways(2, Hand())
    pod = next(iter(a.gossip._inbox.places))
    known = chain(40)
    b.send("pod-0", known)
    exchange(among)
    told = [Insert(pod, anchor, position, packed(tail)) for anchor, position, tail in inserts]
    told += [Insert(pod, known[-1], position, packed(tail)) for _, position, tail in inserts]
    a.wire.hear("wire", encode(Message("g", 1, 1, [], told, [], missing, [])))
    b.send("pod-0", known)
    exchange(among, 3)
    assert a.held(known)["pod-0"] == 40
