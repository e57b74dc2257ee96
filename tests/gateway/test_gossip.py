"""What several gateways know of each other's requests, whatever the network does."""

from __future__ import annotations

import msgspec
import pytest
from gossip_world import BLOCK, KEY, PODS, Gateway, Hand, Wire, chain, exchange, gateways
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.gateway.gossip import EXCHANGE_S
from penstock.gateway.gossip_inbox import SILENT_S
from penstock.gateway.gossip_outbox import REFRESH_S
from penstock.gateway.shares import NONE, Counts


@pytest.fixture
def clock() -> Hand:
    return Hand()


def test_all_gateways_see_the_requests_of_all(clock: Hand) -> None:
    a, b, c = among = gateways(3, clock)
    trip = a.send("pod-0", tokens=1_000)
    b.send("pod-0", tokens=500)
    exchange(among)
    assert a.load("pod-0") == b.load("pod-0") == c.load("pod-0") == Counts(2, 2, 1_500, 0)
    a.began(trip)
    exchange(among)
    assert a.load("pod-0") == b.load("pod-0") == c.load("pod-0") == Counts(2, 1, 500, 1_000)
    a.ended(trip)
    exchange(among)
    assert a.load("pod-0") == b.load("pod-0") == c.load("pod-0") == Counts(1, 1, 500, 0)


def test_what_others_have_under_way_is_never_told_as_ones_own(clock: Hand) -> None:
    a, b, c = among = gateways(3, clock)
    trip = a.send("pod-0", tokens=1_000)
    exchange(among, 200)
    assert b.router.shares.own("pod-0") == c.router.shares.own("pod-0") == NONE
    a.ended(trip)
    exchange(among)
    assert [one.load("pod-0") for one in among] == [NONE] * 3


def test_a_gateway_that_hears_nobody_routes_by_its_own_counts(clock: Hand) -> None:
    alone = Gateway("alone", clock)
    trip = alone.send("pod-1", chain(10))
    for _ in range(400):
        clock.at += EXCHANGE_S
        said = alone.say()
        assert len(said) <= 1
    assert alone.load("pod-1") == Counts(1, 1, 10 * BLOCK, 0)
    alone.ended(trip)
    assert alone.load("pod-1") == NONE


def test_a_lost_message_is_made_good_within_a_refresh(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    trip = a.send("pod-0", tokens=100)
    clock.at += EXCHANGE_S
    assert a.say()
    exchange(among)
    assert b.load("pod-0") == NONE
    exchange(among, round(REFRESH_S / EXCHANGE_S) + 1)
    assert b.load("pod-0") == a.load("pod-0") == Counts(1, 1, 100, 0)
    a.ended(trip)
    clock.at += EXCHANGE_S
    assert a.say()
    exchange(among, round(REFRESH_S / EXCHANGE_S) + 1)
    assert b.load("pod-0") == NONE


def test_the_counts_of_a_gateway_that_died_vanish(clock: Hand) -> None:
    a, b, c = among = gateways(3, clock)
    a.send("pod-0", tokens=100)
    b.send("pod-0", tokens=10)
    exchange(among)
    survivors = [b, c]
    exchange(survivors, round(SILENT_S / EXCHANGE_S) - 2)
    assert c.load("pod-0") == Counts(2, 2, 110, 0)
    exchange(survivors, 4)
    assert b.load("pod-0") == c.load("pod-0") == Counts(1, 1, 10, 0)


def test_a_gateway_that_starts_again_replaces_what_it_was_at_once(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    a.send("pod-0", tokens=100)
    exchange(among)
    anew = Gateway("gateway-0", clock)
    old = a.say()
    a.send("pod-1", tokens=7)
    clock.at += EXCHANGE_S
    late = a.say()
    exchange([anew, b])
    assert b.load("pod-0") == NONE
    stale = b.gossip.faults["gossip_stale"]
    for payload in (*old, *late):
        b.wire.hear("wire", payload)
    assert b.load("pod-0") == b.load("pod-1") == NONE
    assert b.gossip.faults["gossip_stale"] == stale + len(old) + len(late)


def test_who_joins_is_told_counts_and_chains_of_before(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    chains = [chain(20) for _ in range(50)]
    for one in chains:
        a.send("pod-2", one)
    exchange(among, 60)
    late = Gateway("late", clock)
    exchange([a, b, late], 60)
    assert late.load("pod-2") == a.load("pod-2") == Counts(50, 50, 50 * 20 * BLOCK, 0)
    assert all(late.held(one) == {"pod-2": 20} for one in chains)


def test_endpoints_that_another_gateway_does_not_know_are_nothing_to_it(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    b.serve(PODS[:2])
    a.send("pod-3", chain(10))
    exchange(among)
    assert b.gossip.faults["gossip_unknown"] == 2
    b.serve(PODS)
    exchange(among, round(REFRESH_S / EXCHANGE_S) + 1)
    assert b.load("pod-3") == Counts(1, 1, 10 * BLOCK, 0)


def test_an_endpoint_that_goes_and_comes_back_begins_with_nothing(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    trip = a.send("pod-3", tokens=50)
    exchange(among)
    for one in among:
        one.serve(PODS[:2])
    exchange(among, 2)
    for one in among:
        one.serve(PODS)
    a.ended(trip)
    exchange(among, round(SILENT_S / EXCHANGE_S) + 2)
    assert a.load("pod-3") == b.load("pod-3") == NONE


Step = tuple[str, int, int]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "begin", "end", "tell", "deliver", "lose", "repeat", "wait"]),
            st.integers(0, 1 << 16),
            st.integers(0, 3),
        ),
        max_size=60,
    )
)
def test_sums_converge_whatever_was_lost_late_or_repeated(steps: list[Step]) -> None:
    clock = Hand()
    among = gateways(3, clock)
    trips = [(gateway, gateway.send(pod, tokens=10)) for gateway in among for pod in PODS[:2]]
    flying: list[tuple[Gateway, bytes]] = []
    for what, drawn, which in steps:
        gateway = among[which % 3]
        if what == "send":
            trips.append((gateway, gateway.send(PODS[drawn % 4], tokens=drawn)))
        elif what in ("begin", "end") and trips:
            owner, trip = trips[drawn % len(trips)]
            (owner.began if what == "begin" else owner.ended)(trip)
            if what == "end":
                del trips[drawn % len(trips)]
        elif what == "tell":
            flying += [(other, said) for said in gateway.say() for other in among if other is not gateway]
        elif what in ("deliver", "lose", "repeat") and flying:
            place = drawn % len(flying)
            listener, said = flying[place]
            if what != "lose":
                listener.wire.hear("wire", said)
            if what != "repeat":
                del flying[place]
        elif what == "wait":
            clock.at += drawn / (1 << 16)
    exchange(among, round((SILENT_S + REFRESH_S) / EXCHANGE_S) + 4)
    for pod in PODS:
        own = [gateway.router.shares.own(pod) for gateway in among]
        total = Counts(*map(sum, zip(*own, strict=True)))
        assert [gateway.load(pod) for gateway in among] == [total] * 3
    under_way = {pod: sum(trip.load.endpoint.name == pod for _, trip in trips) for pod in PODS}
    assert {pod: among[0].load(pod).in_flight for pod in PODS} == under_way


def test_services_that_are_gone_are_told_of_no_more(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    a.send("pod-0", chain(10))
    a.gossip.keep({})
    assert a.router.on_sent is None
    exchange(among, 100)
    assert b.load("pod-0") == NONE
    a.gossip.keep({KEY: a.router})
    a.send("pod-0", tokens=5)
    exchange(among, 2)
    assert b.load("pod-0") == a.load("pod-0")


def test_what_one_worker_hears_from_afar_all_workers_of_its_machine_hear(clock: Hand) -> None:
    afar = Gateway("afar", clock)
    near = [Wire(), Wire()]
    workers = [Gateway(f"worker-{number}", clock, near=wire) for number, wire in enumerate(near)]
    afar.send("pod-0", tokens=100)
    for _ in range(60):
        clock.at += EXCHANGE_S
        for payload in afar.say():
            workers[0].wire.hear("wire", payload)
        for number, worker in enumerate(workers):
            for payload in worker.say():
                afar.wire.hear("wire", payload)
            for payload in near[number].take():
                near[1 - number].hear("wire", payload)
    assert [one.load("pod-0") for one in (afar, *workers)] == [Counts(1, 1, 100, 0)] * 3
    assert afar.gossip.gateways == workers[0].gossip.gateways == workers[1].gossip.gateways == 2


def test_each_knows_how_fast_endpoints_are_by_the_answers_of_all(clock: Hand) -> None:
    among = gateways(3, clock)
    for number in range(24):
        sender = among[number % 3]
        trip = sender.send("pod-0", tokens=1_000 * (1 + number % 4))
        trip.streams = True
        clock.at += 0.1 + 0.0002 * trip.prompt.tokens
        sender.began(trip)
        clock.at += 1.0
        sender.router.ended(trip, clock.at, -1, -1, 101)
        exchange(among)
    for gateway in among:
        load = gateway.router.loads["pod-0"]
        assert load.is_measured
        assert load.prefill_token_s == pytest.approx(0.0002, rel=0.1)
        assert load.decode_s == pytest.approx(0.01, rel=0.01)


def test_what_is_exchanged_is_counted_on_both_sides(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    a.send("pod-0", chain(10))
    exchange(among)
    before, sent = b.gossip.exchanged, a.gossip.exchanged
    assert before.messages["heard"] == sent.messages["sent"] > 0
    assert before.bytes["heard"] == sent.bytes["sent"] > 0
    assert (before.gateways, before.heard_at, before.dropped["malformed"]) == (1, clock.at, 0)
    clock.at += 1
    with pytest.raises(msgspec.DecodeError):
        b.wire.hear("wire", b"\xc1")
    after = b.gossip.exchanged
    assert (after.dropped["malformed"], after.heard_at) == (1, before.heard_at)
    assert after.messages["heard"] == before.messages["heard"] + 1
