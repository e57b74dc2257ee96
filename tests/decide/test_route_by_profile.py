"""A service with a profile: the revision is drawn, and in it the pipeline chooses."""

from __future__ import annotations

from typing import Any

from penstock.app.registry import open_profile
from penstock.contracts.exchange import (
    Endpoint,
    PluginRoute,
    PromptClassRoute,
    RevisionRoute,
    RoutingRoute,
    ServiceRoute,
)
from penstock.contracts.scheduling import Load, Prompt
from penstock.decide.routing import explain_route, route_by_profile
from penstock.kit.hashing import draw

ENDPOINTS = tuple(Endpoint(name=name, address=f"127.0.0.{i}", port=80) for i, name in enumerate("abcd"))
ROUTING = RoutingRoute()
PIPELINE = open_profile(ROUTING)


def service(
    *weights: int, routing: RoutingRoute = ROUTING, endpoints: tuple[Endpoint, ...] = ENDPOINTS
) -> ServiceRoute:
    """Endpoints are shared out evenly among as many revisions as there are weights."""
    each = len(endpoints) // len(weights)
    revisions = tuple(
        RevisionRoute(name=f"r{i}", weight_percent=weight, endpoints=endpoints[i * each : (i + 1) * each])
        for i, weight in enumerate(weights)
    )
    return ServiceRoute(
        namespace="default", name="m", uid="u", engine_model="m", revisions=revisions, routing=routing
    )


def loads(**changes: dict[str, Any]) -> dict[str, Load]:
    return {one.name: Load(endpoint=one, **changes.get(one.name, {})) for one in ENDPOINTS}


def prompt(number: int = 1, tokens: int = 4000, **more: Any) -> Prompt:
    return Prompt(draw=draw(f"id-{number}"), tokens=tokens, **more)


def test_a_prompt_goes_where_it_is_held_until_the_queue_there_costs_more() -> None:
    known = loads()
    found = route_by_profile(service(100), prompt(), known, {"c": 4000.0}, PIPELINE, 0.0)
    assert found is not None
    assert (found.endpoint.name, found.revision, found.ready) == ("c", "r0", 4)
    assert (found.prompt_class, found.cached_tokens, found.score) == ("short", 4000.0, 1.0)
    assert found.reason == "short prompt, score 1.000, best of 4, 4000 tokens expected in its cache"
    known["c"].uncached_tokens = 30_000.0
    moved = route_by_profile(service(100), prompt(), known, {"c": 4000.0}, PIPELINE, 0.0)
    assert moved is not None
    assert moved.endpoint.name != "c"


def test_the_shares_of_revisions_hold_wherever_the_prompt_is_held() -> None:
    routes = [
        route_by_profile(service(90, 10), prompt(i), loads(), {"d": 4000.0}, PIPELINE, 0.0)
        for i in range(1000)
    ]
    assert 60 < sum(found.revision == "r1" for found in routes if found) < 140


def test_requests_that_nothing_tells_apart_are_shared_out() -> None:
    routes = [route_by_profile(service(100), prompt(i), loads(), {}, PIPELINE, 0.0) for i in range(400)]
    assert all(60 < sum(found.endpoint.name == name for found in routes if found) < 140 for name in "abcd")


def test_excluded_and_avoided_endpoints_are_left_out() -> None:
    for i in range(50):
        found = route_by_profile(
            service(100),
            prompt(i),
            loads(),
            {"a": 4000.0, "b": 3000.0},
            PIPELINE,
            0.0,
            avoid=["a"],
            exclude=["b"],
        )
        assert found is not None
        assert found.endpoint.name in "cd"
    every = route_by_profile(service(100), prompt(), loads(), {}, PIPELINE, 0.0, avoid="abcd")
    assert every is not None
    assert every.all_avoided
    assert route_by_profile(service(100), prompt(), loads(), {}, PIPELINE, 0.0, exclude="abcd") is None
    assert explain_route(service(100), prompt(), loads(), {}, PIPELINE, 0.0, exclude="abcd") is None


def test_a_caller_that_leaves_no_endpoint_gets_none() -> None:
    assert route_by_profile(service(100), prompt(only=()), loads(), {}, PIPELINE, 0.0) is None
    found = route_by_profile(service(100), prompt(only={"127.0.0.1:80"}), loads(), {}, PIPELINE, 0.0)
    assert found is not None
    assert found.endpoint.name == "b"


def test_a_class_keeps_to_its_pool() -> None:
    own = tuple(
        Endpoint(name=one.name, address=one.address, port=1, labels=(("tier", one.name),))
        for one in ENDPOINTS
    )
    routing = RoutingRoute(
        long=PromptClassRoute(pool=(("tier", "b"),)), batch=PromptClassRoute(pool=(("tier", "d"),))
    )
    known = {one.name: Load(endpoint=one) for one in own}
    asked = service(100, routing=routing, endpoints=own)
    for i in range(20):
        long = route_by_profile(asked, prompt(i), known, {"a": 100.0}, PIPELINE, 0.0)
        batch = route_by_profile(asked, prompt(i, is_batch=True), known, {"a": 4000.0}, PIPELINE, 0.0)
        held = route_by_profile(asked, prompt(i), known, {"a": 4000.0}, PIPELINE, 0.0)
        assert [one.endpoint.name for one in (long, batch, held) if one] == ["b", "d", "a"]


def test_what_is_told_is_what_was_chosen() -> None:
    known = loads(a={"uncached_tokens": 500.0}, d={"waiting": 50.0})
    pipeline = open_profile(
        RoutingRoute(scorers=(PluginRoute(name="prefix", weight=2.0), PluginRoute(name="queue")))
    )
    for i in range(30):
        found = route_by_profile(service(60, 40), prompt(i), known, {"a": 900.0}, pipeline, 0.0)
        said = explain_route(service(60, 40), prompt(i), known, {"a": 900.0}, pipeline, 0.0)
        assert found is not None
        assert said is not None
        assert said.chosen == found.endpoint.name
        assert said.runner_up != said.chosen


def test_endpoints_of_an_older_route_that_are_gone_are_not_chosen() -> None:
    known = {name: load for name, load in loads().items() if name in "bd"}
    chosen = {
        found.endpoint.name
        for n in range(40)
        if (found := route_by_profile(service(100), prompt(n), known, {}, PIPELINE, 0.0))
    }
    assert chosen == {"b", "d"}
    assert route_by_profile(service(100), prompt(), {}, {}, PIPELINE, 0.0) is None


def test_the_only_endpoint_is_chosen_unless_the_caller_leaves_it_out() -> None:
    one = service(100, endpoints=ENDPOINTS[:1])
    known = {"a": Load(endpoint=ENDPOINTS[0], waiting=10_000.0)}
    found = route_by_profile(one, prompt(), known, {"a": 1000.0}, PIPELINE, 0.0)
    assert found is not None
    assert (found.endpoint.name, found.prompt_class, found.cached_tokens) == ("a", "long", 1000.0)
    assert route_by_profile(one, prompt(only=frozenset({"127.9.9.9:80"})), known, {}, PIPELINE, 0.0) is None
    assert route_by_profile(one, prompt(), known, {}, PIPELINE, 0.0, exclude={"a"}) is None
