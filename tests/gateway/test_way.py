"""Whoever finds a request's endpoint: prompts are looked at no more than a choice needs, and whole where there is one."""

from __future__ import annotations

from typing import Any, cast

import pytest
from prompt_calls import call_of
from routed_calls import router, service

from penstock.contracts.exchange import ServiceRoute
from penstock.gateway.call import Call
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.prompts import Prompts
from penstock.gateway.router import Router
from penstock.gateway.routing import Routing
from penstock.gateway.telemetry.metrics import Telemetry
from penstock.gateway.telemetry.records import Records
from penstock.gateway.way import SAMPLED, Ways
from penstock.kit.clock import SystemClock

KEY = ("default", "m")
TEXT = "a word " * 400


class Known:
    """The ways of one service, with the router that it is given."""

    def __init__(self, by: Router | None) -> None:
        clock = SystemClock()
        self.endpoints = Endpoints(clock)
        routing: Any = type("Known", (), {"prewarms": {}, "disaggregated": {}})()
        routing.routers = {} if by is None else {KEY: by}
        records = Records(Telemetry(), clock)
        self.ways = Ways(self.endpoints, cast("Routing", routing), Prompts(), records)

    def call(self, asked: ServiceRoute, number: int = 0) -> Call:
        call = call_of({"model": "m", "prompt": f"{number} {TEXT}"}, id=f"r{number}")
        call.service = asked
        call.reading.explains = False
        return call

    def chosen(self, call: Call, asked: ServiceRoute) -> str:
        found = self.ways.choose(call, asked, frozenset(), 1.0)
        assert found is not None
        return found.endpoint.name


def test_without_a_router_the_endpoint_with_the_fewest_requests_is_asked() -> None:
    asked = service("a", "b", "c")
    known = Known(None)
    known.endpoints.in_flight.update(a=3, b=1, c=2)
    call = known.call(asked)
    assert known.ways.of(call, asked) is None
    assert known.chosen(call, asked) == "b"


def test_one_endpoint_is_asked_without_hashing_what_is_said_but_for_one_prompt_in_some() -> None:
    by = router("a", prewarm_prefixes=4)
    known = Known(by)
    hashed = 0
    for number in range(10 * SAMPLED):
        call = known.call(by.service, number)
        way = known.ways.of(call, by.service)
        assert way is not None
        assert way.prompt.tokens == pytest.approx(len(TEXT) / 4, rel=0.05)
        assert known.chosen(call, by.service) == "a"
        hashed += bool(way.prompt.hashes)
        assert call.trail is None
    assert hashed == 10


def test_nothing_is_hashed_where_no_second_endpoint_would_be_warmed() -> None:
    by = router("a", prewarm_prefixes=0)
    known = Known(by)
    ways = [known.ways.of(known.call(by.service, n), by.service) for n in range(4 * SAMPLED)]
    assert not any(way.prompt.hashes for way in ways if way is not None)


def test_a_request_that_came_while_there_was_one_endpoint_is_looked_at_when_there_are_two() -> None:
    by = router("a", prewarm_prefixes=0)
    known = Known(by)
    call = known.call(by.service)
    way = known.ways.of(call, by.service)
    assert way is not None
    by.apply(service("a", "b", prewarm_prefixes=0))
    whole = Prompts().of(known.call(by.service), by.service)
    assert whole.hashes
    by.index.sent("b", whole.hashes, 0.5)
    by.loads["b"].is_measured = by.loads["a"].is_measured = True
    by.loads["b"].prefill_token_s = by.loads["a"].prefill_token_s = 1e-3
    assert known.chosen(call, by.service) == "b", "it holds the prompt"
    assert way.prompt == whole
    assert call.trail is not None


def test_the_only_endpoint_is_not_met_again() -> None:
    by = router("a")
    known = Known(by)
    call = known.call(by.service)
    known.ways.of(call, by.service)
    assert known.ways.choose(call, by.service, frozenset("a"), 1.0) is None


def test_what_is_under_way_is_counted_until_it_is_over_whatever_becomes_of_it() -> None:
    by = router("a")
    known, load = Known(by), by.loads["a"]
    for prompt_tokens in (-1, 700):
        call = known.call(by.service)
        way = known.ways.of(call, by.service)
        assert way is not None
        known.chosen(call, by.service)
        way.sent("a", 1.0)
        assert (load.in_flight, load.prefilling, load.uncached_tokens) == (1, 1, way.prompt.tokens)
        call.prompt_tokens = prompt_tokens
        way.ended(2.0)
        way.ended(3.0)
        assert (load.in_flight, load.prefilling, load.uncached_tokens, load.context_tokens) == (0, 0, 0, 0)
