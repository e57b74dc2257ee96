"""A pool has room as long as any of its endpoints has, by whatever is known of them."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.contracts.exchange import Endpoint, FlowRoute
from penstock.contracts.scheduling import Load
from penstock.decide.saturation import Space, seen_capacity, space_of

FLOW = FlowRoute()


def load(slots: int = 0, **fields: float) -> Load:
    return Load(endpoint=Endpoint(name="e", address="127.0.0.2", port=1, slots=slots), **fields)  # type: ignore[arg-type]


QUEUED = load(in_flight=20, prefilling=6, waiting=5.0, running=15.0, told_in_flight=20, capacity=15.0)
FREE = load(in_flight=3, prefilling=0, waiting=0.0)


def is_saturated(space: Space) -> bool:
    return space.requests < 1.0 or space.tokens <= 0.0


@pytest.mark.parametrize(
    ("full", "roomy"),
    [
        (QUEUED, replace(QUEUED, waiting=4.0, running=16.0, capacity=16.0)),
        (QUEUED, replace(QUEUED, in_flight=18)),
        (QUEUED, replace(QUEUED, prefilling=1)),
        (replace(QUEUED, in_flight=5, told_in_flight=5), replace(QUEUED, in_flight=4, told_in_flight=5)),
        (load(in_flight=9, kv_use=0.96), load(in_flight=9, kv_use=0.9)),
        (load(in_flight=4, slots=4), load(in_flight=3, slots=4)),
        (
            load(in_flight=2, prefilling=2, uncached_tokens=3e5),
            load(in_flight=2, prefilling=2, uncached_tokens=2e5),
        ),
        (
            load(in_flight=2, prefilling=2, uncached_tokens=15e3, prefill_token_s=1e-3, is_measured=True),
            load(in_flight=2, prefilling=2, uncached_tokens=13e3, prefill_token_s=1e-3, is_measured=True),
        ),
        (
            load(in_flight=2, prefilling=2, uncached_tokens=15e3, prefill_token_s=1e-3, is_measured=True),
            load(in_flight=1, prefilling=1, uncached_tokens=15e3, prefill_token_s=1e-3, is_measured=True),
        ),
    ],
    ids=[
        "queue",
        "some went since",
        "others have begun",
        "another gateway's",
        "cache",
        "slots",
        "tokens",
        "seconds",
        "one large prompt",
    ],
)
def test_an_endpoint_is_full_by_each_of_its_limits(full: Load, roomy: Load) -> None:
    assert is_saturated(space_of([full], FLOW))
    assert not is_saturated(space_of([roomy], FLOW))
    assert space_of([full], FLOW).fullness > space_of([roomy], FLOW).fullness


def test_one_endpoint_with_room_is_enough_and_only_its_room_counts() -> None:
    assert not is_saturated(space_of([QUEUED, QUEUED, FREE], FLOW))
    assert space_of([QUEUED, load(in_flight=2, slots=5)], FLOW).requests == 3
    assert space_of([QUEUED, FREE], FLOW).fullness == pytest.approx(0.5)


def test_what_an_engine_says_of_itself_never_keeps_an_idle_endpoint_from_its_next_request() -> None:
    assert not is_saturated(space_of([load(waiting=1e9, kv_use=1.0, told_in_flight=3, capacity=0.0)], FLOW))


@pytest.mark.parametrize(
    ("before", "told", "after"),
    [
        (-1.0, {"running": 8.0, "waiting": 0.0}, -1.0),
        (-1.0, {"running": 8.0, "waiting": 3.0}, 8.0),
        (16.0, {"running": 8.0, "waiting": 3.0}, 8.0),
        (8.0, {"running": 8.0, "waiting": 0.0}, 16.0),
        (8.0, {"running": 3.0, "waiting": 0.0}, 8.0),
        (-1.0, {"waiting": 3.0, "in_flight": 9}, 6.0),
        (-1.0, {}, -1.0),
    ],
)
def test_how_many_an_engine_answers_at_once_shows_when_some_wait(
    before: float, told: dict[str, float], after: float
) -> None:
    assert seen_capacity(load(capacity=before, **told)) == after


def test_a_pool_without_endpoints_holds_nobody_back() -> None:
    assert space_of([], FLOW) == Space(inf, inf, 0.0)


@given(
    st.lists(
        st.builds(
            load,
            slots=st.integers(0, 4),
            in_flight=st.integers(0, 6),
            prefilling=st.integers(0, 6),
            waiting=st.floats(-1, 20),
            running=st.floats(-1, 20),
            capacity=st.floats(-1, 20),
            told_in_flight=st.integers(0, 6),
            kv_use=st.floats(-1, 1),
            uncached_tokens=st.floats(0, 1e6),
            prefill_token_s=st.floats(0, 1),
            is_measured=st.booleans(),
        ),
        max_size=4,
    )
)
def test_space_is_never_negative_and_fullness_is_a_share(loads: list[Load]) -> None:
    space = space_of(loads, FLOW)
    assert space.requests >= 0
    assert space.tokens >= 0
    assert 0 <= space.fullness <= 1
    assert not loads or is_saturated(space) == all(is_saturated(space_of([one], FLOW)) for one in loads)
