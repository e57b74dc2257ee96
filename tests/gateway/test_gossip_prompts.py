"""Where several gateways find each other's prompts."""

from __future__ import annotations

import pytest
from gossip_world import BLOCK, PODS, Hand, chain, exchange, gateways

from penstock.contracts.scheduling import Prompt
from penstock.gateway.gossip import EXCHANGE_S
from penstock.gateway.gossip_codec import MAX_CHAIN_BLOCKS, decode
from penstock.gateway.gossip_outbox import MAX_PENDING


@pytest.fixture
def clock() -> Hand:
    return Hand()


def test_chains_that_were_sent_anywhere_are_found_everywhere(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    head = chain(30)
    prompts = [head + chain(9) for _ in range(5)]
    for number, one in enumerate(prompts):
        a.send(PODS[number % 4], one)
        exchange(among)
    for one in prompts:
        assert b.held(one) == a.held(one)


def test_of_a_chain_that_begins_like_another_only_the_rest_is_told(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    head = chain(120)
    a.send("pod-0", head + chain(4))
    exchange(among)
    before = a.gossip.told_bytes
    a.send("pod-1", head + chain(4))
    clock.at += EXCHANGE_S
    (payload,) = a.say()
    (insert,) = decode(payload).inserts
    assert insert.position == 120
    assert len(insert.tail) == 4 * 8
    assert a.gossip.told_bytes - before < 200
    b.wire.hear("wire", payload)
    assert b.held(head) == {"pod-0": 120, "pod-1": 120}


def test_a_chain_that_does_not_fit_one_message_is_told_in_several(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    long = chain(2_000)
    a.send("pod-0", long)
    exchange(among)
    assert b.held(long) == {"pod-0": 2_000}


def test_of_a_chain_that_is_too_long_the_beginning_is_told(clock: Hand) -> None:
    a, b = among = gateways(2, clock, room=32_768)
    long = chain(MAX_CHAIN_BLOCKS + 100)
    a.send("pod-0", long)
    exchange(among, 40)
    assert b.held(long) == {"pod-0": MAX_CHAIN_BLOCKS}


def test_a_beginning_that_was_lost_is_asked_for_and_told_anew(clock: Hand) -> None:
    a, b, c = among = gateways(3, clock)
    head = chain(40)
    a.send("pod-0", head)
    clock.at += EXCHANGE_S
    for payload in a.say():
        b.wire.hear("wire", payload)
    for _ in range(3):
        a.send("pod-0", head + chain(10))
        exchange(among)
    last = head + chain(10)
    a.send("pod-0", last)
    exchange(among)
    assert c.held(last) == b.held(last) == {"pod-0": 50}


def test_the_newest_chains_are_told_first_and_the_oldest_make_room(clock: Hand) -> None:
    a, b = gateways(2, clock)
    chains = [chain(60) for _ in range(2 * MAX_PENDING)]
    for one in chains:
        a.send("pod-0", one)
    assert a.gossip.faults["gossip_pushed_out"] == MAX_PENDING
    clock.at += EXCHANGE_S
    for payload in a.say():
        b.wire.hear("wire", payload)
    assert b.held(chains[-1]) == {"pod-0": 60}
    assert b.held(chains[0]) == b.held(chains[MAX_PENDING]) == {}


def test_what_was_lost_is_told_anew_by_whoever_told_it_last_as_soon_as_somebody_misses_it(
    clock: Hand,
) -> None:
    a, b, c = among = gateways(3, clock)
    lost = chain(40)
    a.send("pod-0", lost)
    clock.at += EXCHANGE_S
    for payload in a.say():
        b.wire.hear("wire", payload)
    a.send("pod-1", lost + chain(10))
    exchange(among, 3)
    assert c.held(lost) == a.held(lost) == {"pod-0": 40, "pod-1": 40}


def test_one_lost_message_takes_nothing_else_with_it(clock: Hand) -> None:
    """What prompts have in common stands for the first of them, not for the last, which somebody may have missed."""
    a, b = among = gateways(2, clock)
    head = chain(80)
    a.send("pod-0", head + chain(10))
    exchange(among)
    a.send("pod-0", head + chain(10))
    clock.at += EXCHANGE_S
    assert a.say()
    after = head + chain(10)
    a.send("pod-0", after)
    clock.at += EXCHANGE_S
    for payload in a.say():
        b.wire.hear("wire", payload)
    assert b.held(after) == {"pod-0": 90}


@pytest.mark.parametrize("pod", PODS)
def test_a_conversation_goes_on_through_any_gateway_where_its_turns_are_held(clock: Hand, pod: str) -> None:
    a, b = among = gateways(2, clock)
    turn = chain(30)
    trip = a.send(pod, turn)
    a.began(trip)
    a.ended(trip)
    exchange(among)
    follow_up = turn + chain(8)
    prompt = Prompt(draw=7, tokens=len(follow_up) * BLOCK, hashes=follow_up, block_tokens=BLOCK)
    held = b.router.held(prompt, clock.at)
    route = b.router.route(b.router.service, prompt, held, clock.at)
    assert route is not None
    assert route.endpoint.name == pod
    assert held.keys() == {pod}
    assert held[pod] > 0.5 * len(turn) * BLOCK
