"""One word says why a request went where it went."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from penstock.decide.route_reason import RouteReason, route_reason

USUAL: dict[str, Any] = {
    "attempt": 1,
    "all_avoided": False,
    "considered": 3,
    "cached_tokens": 100.0,
    "most_cached_tokens": 100.0,
}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, "cache"),
        ({"cached_tokens": 99.7}, "cache"),
        ({"cached_tokens": 90.0}, "balance"),
        ({"cached_tokens": 0.0}, "balance"),
        ({"cached_tokens": 0.0, "most_cached_tokens": 0.0}, "cold"),
        ({"considered": 1}, "only"),
        ({"considered": 1, "all_avoided": True}, "set_aside"),
        ({"attempt": 2, "considered": 1, "all_avoided": True}, "again"),
    ],
)
def test_the_first_that_is_true_counts(changed: dict[str, Any], reason: str) -> None:
    assert route_reason(**{**USUAL, **changed}) == reason
    assert reason in get_args(RouteReason)
