"""When a gateway believes another one that an endpoint is down."""

from __future__ import annotations

import pytest
from gossip_world import PODS, Gateway, Hand, exchange, gateways


@pytest.fixture
def clock() -> Hand:
    return Hand()


def test_an_open_circuit_is_believed_where_the_endpoint_answers_nothing(clock: Hand) -> None:
    a, b, c = among = gateways(3, clock)
    a.endpoints.failed("pod-0", "status_503", 20.0)
    assert a.endpoints.set_aside() == {"pod-0"}
    for _ in range(20):
        exchange(among)
        c.endpoints.answered("pod-0")
    assert b.endpoints.set_aside() == {"pod-0"}
    assert c.endpoints.set_aside() == ()


def test_word_of_one_opening_is_judged_once_and_of_the_next_anew(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    a.endpoints.failed("pod-0", "status_503", 5.0)
    exchange(among, 2)
    b.endpoints.answered("pod-0")
    exchange(among, 180)
    assert b.endpoints.set_aside() == ()
    exchange(among, 40)
    a.endpoints.failed("pod-0", "status_503", 5.0)
    exchange(among, 20)
    assert b.endpoints.set_aside() == {"pod-0"}


def test_hearsay_is_not_passed_on(clock: Hand) -> None:
    a, b = among = gateways(2, clock)
    a.endpoints.failed("pod-0", "status_503", 20.0)
    exchange(among, 20)
    assert b.endpoints.set_aside() == {"pod-0"}
    c = Gateway("c", clock)
    exchange([b, c], 60)
    assert c.endpoints.set_aside() == ()


def test_hearsay_never_takes_more_than_half_of_the_endpoints(clock: Hand) -> None:
    b = Gateway("b", clock)
    for number in range(4):
        speaker = Gateway(f"speaker-{number}", clock)
        exchange([speaker, b], 40)
        speaker.endpoints.failed(PODS[number], "status_503", 20.0)
        exchange([speaker, b], 20)
    assert b.endpoints.set_aside() == {"pod-0", "pod-1"}
