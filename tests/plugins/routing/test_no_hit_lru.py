"""Prompts that nobody holds go round; those that somebody holds do not care."""

from __future__ import annotations

from math import inf

from views import load, view

from penstock.app.registry import open_profile, open_scorer
from penstock.contracts.exchange import Endpoint, PluginRoute, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Load, Prompt
from penstock.gateway.router import Router
from penstock.kit.hashing import chain_seed, draw, token_blocks

SCORER = PluginRoute(name="no-hit-lru")


def scores(*seen: Load, cached: tuple[float, ...] = ()) -> list[float]:
    return [*open_scorer(SCORER).score(Prompt(draw=1, tokens=100), view(*seen, cached=cached))]


def test_the_longest_ago_is_best_and_never_is_longer_ago_than_all() -> None:
    old, new, never = load(cold_at=5.0), load(cold_at=7.0), load(cold_at=-inf)
    assert scores(old, new, never) == [0.5, 0, 1]
    assert scores(old, never, new, load()) == [1 / 3, 1, 0, 1]


def test_alike_are_alike_and_one_alone_is_as_good_as_any() -> None:
    assert scores(load(), load()) == [1, 1]
    assert scores(load(cold_at=5.0), load(cold_at=5.0)) == [1, 1]
    assert scores(load(cold_at=5.0)) == [1]
    assert scores() == []


def test_where_somebody_holds_something_it_says_nothing() -> None:
    assert scores(load(cold_at=5.0), load(), cached=(64.0, 0.0)) == [0.5, 0.5]


def test_new_prompts_go_round_and_what_is_held_stays() -> None:
    pool = tuple(Endpoint(name=name, address="127.0.0.1", port=80) for name in "abcd")
    routing = RoutingRoute(
        block_tokens=16, scorers=(SCORER, PluginRoute(name="prefix", weight=3)), profile="p"
    )
    service = ServiceRoute(
        namespace="default",
        name="m",
        uid="u",
        engine_model="m",
        revisions=(RevisionRoute(name="m-1", weight_percent=100, endpoints=pool),),
        routing=routing,
    )
    router, homes = Router(service, open_profile), {}
    for turn in range(24):
        number = turn % 12
        hashes = token_blocks([number] * 320, 16, chain_seed("m"))
        prompt = Prompt(draw=draw(f"r{turn}"), tokens=320, hashes=hashes, block_tokens=16)
        held = router.held(prompt, float(turn))
        chosen = router.route(service, prompt, held, float(turn))
        assert chosen is not None
        name = chosen.endpoint.name
        trip = router.sent(name, prompt, held, float(turn))
        assert trip is not None
        router.kept(trip, float(turn))
        assert homes.setdefault(number, name) == name
    order = [homes[number] for number in range(12)]
    assert sorted(order[:4]) == [*"abcd"]
    assert order[4:8] == order[8:12] == order[:4]
