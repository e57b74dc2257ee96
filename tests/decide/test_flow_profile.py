"""When endpoints are full, and what may wait, is what the profile says; the rest is as it is written down."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.contracts.exchange import FlowRoute
from penstock.decide.routing_profile import route_of
from penstock.resources.routing import DEFAULT_FLOW, RoutingProfile


def flow(**spec: Any) -> FlowRoute:
    document = {"metadata": {"name": "p", "namespace": "n"}, "spec": {"flow": spec}}
    return route_of(msgspec.convert(document, RoutingProfile)).flow


def test_all_that_a_profile_says_of_waiting_reaches_the_gateway() -> None:
    said = {
        "engineQueue": 2,
        "maxKvUse": 0.5,
        "prefillSeconds": 3,
        "maxRequests": 7,
        "maxBytes": 9,
        "ttlSeconds": 0,
    }
    expected = FlowRoute(waiting=2.0, kv_use=0.5, prefill_s=3.0, ttl_s=0.0, max_requests=7, max_bytes=9)
    assert flow(**said) == expected


def test_the_defaults_that_are_told_are_those_that_hold() -> None:
    assert flow() == flow(**msgspec.to_builtins(DEFAULT_FLOW)) == FlowRoute() == route_of(None).flow
