"""A prompt's class is told by what is left to compute, and says where it may go and how much of it at once."""

from __future__ import annotations

import pytest

from penstock.contracts.exchange import Endpoint, PromptClassRoute, RoutingRoute
from penstock.contracts.scheduling import Prompt
from penstock.decide.prompt_class import class_of, class_route, lack_of_room, pool_of


@pytest.mark.parametrize(
    ("tokens", "cached", "batch", "expected"),
    [
        (2048, [], False, "short"),
        (2049, [], False, "long"),
        (9000, [100.0, 6952.0], False, "short"),
        (9000, [100.0, 6951.0], False, "long"),
        (10, [], True, "batch"),
        (9000, [], True, "batch"),
    ],
)
def test_the_class_is_by_uncached_tokens_at_the_best_endpoint(
    tokens: int, cached: list[float], batch: bool, expected: str
) -> None:
    assert class_of(Prompt(draw=1, tokens=tokens, is_batch=batch), cached, 2048) == expected


def test_each_class_has_what_its_profile_says() -> None:
    short, long, batch = (PromptClassRoute(max_requests=count) for count in (1, 2, 3))
    routing = RoutingRoute(short=short, long=long, batch=batch)
    assert [class_route(routing, one) for one in ("short", "long", "batch")] == [short, long, batch]


def endpoint(name: str, **labels: str) -> Endpoint:
    return Endpoint(name=name, address="127.0.0.1", port=1, labels=tuple(labels.items()))


def test_a_pool_has_the_endpoints_with_all_its_labels_or_all_where_none_has_them() -> None:
    a, b, c = endpoint("a", pool="long", zone="x"), endpoint("b", pool="long"), endpoint("c")
    held = PromptClassRoute(pool=(("pool", "long"), ("zone", "x")))
    assert pool_of(held, [a, b, c]) == [a]
    assert pool_of(held, [b, c]) == [b, c]
    assert pool_of(PromptClassRoute(), [a, b, c]) == [a, b, c]


def test_limits_hold_a_prompt_back_and_never_one_that_is_alone() -> None:
    held = PromptClassRoute(max_requests=2, max_tokens=1000)
    assert lack_of_room(held, 1, 400, 600) == ""
    assert "401 uncached tokens" in lack_of_room(held, 1, 401, 600)
    assert "2 requests" in lack_of_room(held, 2, 0, 1)
    assert lack_of_room(held, 0, 0, 5000) == ""
    assert lack_of_room(PromptClassRoute(), 1000, 1e9, 1e6) == ""
