"""A share of requests is routed by a profile that is being tried; sessions stay whole."""

from __future__ import annotations

from penstock.contracts.exchange import RoutingRoute
from penstock.contracts.scheduling import Prompt
from penstock.decide.profile_canary import is_tried
from penstock.kit.hashing import draw

MANY = 4000
PROMPTS = [Prompt(draw=draw(f"request {n}")) for n in range(MANY)]


def tried(percent: int, prompts: list[Prompt] = PROMPTS, service: str = "default/m") -> set[int]:
    routing = RoutingRoute(candidate=RoutingRoute(profile="new"), candidate_percent=percent)
    return {place for place, prompt in enumerate(prompts) if is_tried(routing, prompt, service)}


def test_without_a_candidate_nothing_is_tried() -> None:
    assert not is_tried(RoutingRoute(candidate_percent=50), PROMPTS[0], "default/m")


def test_the_share_is_as_asked_for_and_grows_around_those_who_are_in_it() -> None:
    few, more = tried(10), tried(30)
    assert abs(len(few) / MANY - 0.10) < 0.02
    assert abs(len(more) / MANY - 0.30) < 0.03
    assert few < more


def test_a_session_is_all_of_one_profile() -> None:
    turns = [Prompt(draw=draw(f"turn {n}"), session=f"s{n % 40}") for n in range(400)]
    found = tried(50, turns)
    assert {place % 40 for place in found} == {place for place in range(40) if place in found}
    assert len(found) % 10 == 0
    assert found


def test_who_is_first_is_not_the_same_everywhere() -> None:
    assert tried(10) & tried(10, service="default/other") != tried(10)
