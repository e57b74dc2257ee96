"""What one service's requests are routed by, as they come and go."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, PluginRoute, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.gateway.router import NOTHING_HELD, Router
from penstock.kit.errors import InvalidInput


def service(*names: str, routing: RoutingRoute | None = None) -> ServiceRoute:
    endpoints = tuple(Endpoint(name=name, address="127.0.0.1", port=80) for name in names)
    revision = RevisionRoute(name="r", weight_percent=100, endpoints=endpoints)
    return ServiceRoute(
        namespace="default",
        name="m",
        uid="u",
        engine_model="m",
        revisions=(revision,),
        routing=routing or RoutingRoute(),
    )


def prompt(*hashes: int, tokens: int = 640) -> Prompt:
    return Prompt(draw=1, tokens=tokens, hashes=hashes, block_tokens=64.0)


def test_what_was_sent_somewhere_is_expected_there_once_it_is_on_the_wire() -> None:
    router, asked = Router(service("a", "b"), open_profile), prompt(1, 2, 3)
    trip = router.sent("a", asked, NOTHING_HELD, 0.0)
    assert trip is not None
    assert router.held(asked, 0.0) == {}
    router.kept(trip, 0.0)
    assert router.held(asked, 0.1) == {"a": pytest.approx(3 * 64 * router.index.confidence("a"))}


def test_when_all_have_ended_nothing_is_counted_any_more() -> None:
    router = Router(service("a", "b"), open_profile)
    trips = [router.sent("a", prompt(n), NOTHING_HELD, 0.0) for n in range(3)]
    load = router.loads["a"]
    assert (load.in_flight, load.prefilling, load.uncached_tokens) == (3, 3, 1920.0)
    for number, trip in enumerate(trips):
        assert trip is not None
        if number:
            router.began(trip, 1.0)
            router.began(trip, 1.5)
        router.ended(trip, 2.0, 640, 0, 10)
    assert (load.in_flight, load.prefilling) == (0, 0)
    assert (load.uncached_tokens, load.context_tokens) == (0.0, 0.0)


def test_a_profile_that_cannot_be_opened_leaves_the_one_before_and_takes_the_endpoints() -> None:
    router = Router(service("a", "b"), open_profile)
    unknown = RoutingRoute(scorers=(PluginRoute(name="crystal-ball"),))
    after = service("b", "c", routing=unknown)
    with pytest.raises(InvalidInput, match="crystal-ball"):
        router.apply(after)
    assert set(router.loads) == {"b", "c"}
    found = router.route(after, prompt(1), NOTHING_HELD, 0.0)
    assert found is not None
    assert found.endpoint.name in {"b", "c"}


def test_an_endpoint_that_says_something_else_of_itself_keeps_what_is_known_of_it() -> None:
    before = service("a", "b")
    router = Router(before, open_profile)
    router.sent("a", prompt(1), NOTHING_HELD, 0.0)
    [revision] = before.revisions
    said = tuple(replace(one, step_requests=8.0) for one in revision.endpoints)
    router.apply(replace(before, revisions=(replace(revision, endpoints=said),)))
    assert [(one.in_flight, one.step_requests) for one in router.loads.values()] == [(1, 8.0), (0, 8.0)]


def test_other_blocks_begin_a_new_index() -> None:
    before = service("a", "b")
    router = Router(before, open_profile)
    trip = router.sent("a", prompt(1), NOTHING_HELD, 0.0)
    assert trip is not None
    router.kept(trip, 0.0)
    router.apply(replace(before, routing=RoutingRoute(block_tokens=32)))
    assert router.held(prompt(1), 0.0) == {}
    assert router.index.block_tokens == 32
