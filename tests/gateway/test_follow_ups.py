"""What answers add to what is held."""

import pytest

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.gateway.follow_ups import MOST_ANSWERS, FollowUps
from penstock.gateway.router import Router


def test_the_next_turn_finds_the_answer_where_it_was_given():
    known = FollowUps()
    known.answered("a", [1, 2, 3], 200)
    assert known.after([1, 2, 3, 4, 5], {"a": 3, "b": 1}) == ("a", 200)


def test_a_prompt_of_which_less_is_held_has_lost_its_answer():
    known = FollowUps()
    known.answered("a", [1, 2, 3], 200)
    assert known.after([1, 2, 3, 4], {"a": 2}) is None


def test_one_that_holds_more_of_it_needs_no_guess():
    known = FollowUps()
    known.answered("a", [1, 2, 3], 200)
    assert known.after([1, 2, 3, 4], {"a": 3, "b": 4}) is None


def test_the_last_of_several_answers_counts():
    known = FollowUps()
    known.answered("a", [1], 10)
    known.answered("b", [1], 20)
    assert known.after([1, 2], {"a": 1, "b": 1}) == ("b", 20)
    assert known.after([1, 2], {"a": 1}) is None


def test_memory_is_bounded_and_the_oldest_go():
    known = FollowUps()
    for key in range(MOST_ANSWERS + 5):
        known.answered("a", [key], 1)
    assert len(known) == MOST_ANSWERS
    assert known.after([4], {"a": 1}) is None
    assert known.after([5], {"a": 1}) == ("a", 1)


def test_nothing_is_kept_of_a_prompt_without_a_whole_block():
    known = FollowUps()
    known.answered("a", [], 10)
    known.answered("a", [1], 0)
    assert not len(known)


def turn(router, endpoint, hashes, tokens, answer_tokens, now):
    """One request and its answer there."""
    prompt = Prompt(draw=1, tokens=tokens, hashes=hashes, block_tokens=64)
    trip = router.sent(endpoint, prompt, router.held(prompt, now), now)
    router.kept(trip, now)
    trip.streams = True
    router.began(trip, now + 0.1)
    router.ended(trip, now + 1.0, tokens, -1, answer_tokens)
    return prompt


def conversation():
    ends = tuple(Endpoint(name=name, address="127.0.0.1", port=port) for port, name in enumerate("abc", 1))
    revision = RevisionRoute(name="r", weight_percent=100, endpoints=ends)
    route = ServiceRoute(
        namespace="d", name="m", uid="u", engine_model="m", revisions=(revision,), routing=RoutingRoute()
    )
    return route, Router(route, open_profile)


def test_a_conversation_returns_to_its_replica_without_naming_a_session():
    route, router = conversation()
    turn(router, "b", (1, 2), 140, 640, now=0.0)
    following = Prompt(draw=2, tokens=1000, hashes=range(1, 16), block_tokens=64)
    held = router.held(following, 5.0)
    assert held == {"b": pytest.approx((128 + 640) * router.index.confidence("b"))}
    chosen = router.route(route, following, held, 5.0)
    assert chosen is not None
    assert chosen.endpoint.name == "b"


def test_an_engine_that_tells_of_its_cache_needs_no_such_guess():
    _, router = conversation()
    router.index.restarted("b")
    router.index.trust("b")
    turn(router, "b", (1, 2), 140, 640, now=0.0)
    following = Prompt(draw=2, tokens=1000, hashes=range(1, 16), block_tokens=64)
    assert router.held(following, 1.0) == {"b": 128 * router.index.confidence("b")}


def test_no_more_is_held_than_there_is_of_the_prompt():
    _, router = conversation()
    turn(router, "b", (1, 2), 140, 640, now=0.0)
    again = Prompt(draw=2, tokens=140, hashes=(1, 2), block_tokens=64)
    assert router.held(again, 5.0)["b"] <= 140
