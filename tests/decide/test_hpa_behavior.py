"""How fast an autoscaler may move: windows, policies, periods, and the older rules where there is no behaviour."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from penstock.decide.hpa_behavior import (
    DOWN_LIMIT,
    DOWN_STABILIZED,
    READY,
    TOO_FEW,
    TOO_MANY,
    UP_LIMIT,
    UP_STABILIZED,
    WITHIN,
    Bounds,
    HpaState,
    Limited,
    Recommendation,
    ScaleEvent,
    after_scaling,
    limit,
    with_defaults,
)
from penstock.decide.hpa_replicas import HpaSettings
from penstock.resources.autoscaling import HorizontalPodAutoscalerBehavior

NOW = 1_800_000_000.0
SETTINGS = HpaSettings()


def behavior(up: Any = None, down: Any = None) -> HorizontalPodAutoscalerBehavior:
    document = {key: value for key, value in (("scaleUp", up), ("scaleDown", down)) if value is not None}
    return convert(document, HorizontalPodAutoscalerBehavior)


def rules(
    *policies: tuple[str, int, int], select: str | None = None, window: int | None = 0
) -> dict[str, Any]:
    return {
        "policies": [{"type": t, "value": v, "periodSeconds": p} for t, v, p in policies],
        "selectPolicy": select,
        "stabilizationWindowSeconds": window,
    }


def past(*recommendations: tuple[int, float]) -> HpaState:
    return HpaState(tuple(Recommendation(replicas, NOW - ago) for replicas, ago in recommendations))


def limited(
    desired: int,
    current: int,
    how: HorizontalPodAutoscalerBehavior | None,
    state: HpaState | None = None,
    least: int = 1,
    most: int = 1000,
) -> Limited:
    return limit(desired, Bounds(current, least, most), how, state or HpaState(), SETTINGS, NOW)


def test_what_behaviour_leaves_open_has_the_defaults_of_kubernetes() -> None:
    whole = with_defaults(behavior(), SETTINGS)
    assert whole.scale_up is not None
    assert whole.scale_down is not None
    assert (whole.scale_up.stabilization_window_seconds, whole.scale_up.select_policy) == (0, "Max")
    assert [(p.type, p.value, p.period_seconds) for p in whole.scale_up.policies] == [
        ("Pods", 4, 15),
        ("Percent", 100, 15),
    ]
    assert whole.scale_down.stabilization_window_seconds == 300
    assert [(p.type, p.value, p.period_seconds) for p in whole.scale_down.policies] == [("Percent", 100, 15)]


def test_without_behaviour_the_highest_recommendation_of_five_minutes_holds() -> None:
    answer = limited(2, 10, None, past((7, 300), (20, 301)))
    assert (answer.replicas, answer.able) == (7, DOWN_STABILIZED)
    assert [r.replicas for r in answer.state.recommendations] == [7, 2]


@pytest.mark.parametrize(("current", "replicas"), [(1, 4), (2, 4), (3, 6), (10, 20)])
def test_without_behaviour_a_step_up_doubles_or_reaches_four(current: int, replicas: int) -> None:
    answer = limited(500, current, None)
    assert (answer.replicas, answer.limited) == (replicas, UP_LIMIT)


def test_without_behaviour_bounds_come_last() -> None:
    assert limited(50, 10, None, most=15).limited == TOO_MANY
    assert limited(1, 10, None, least=3).limited == TOO_FEW
    assert limited(1, 10, None, least=3).replicas == 3


def test_growth_takes_the_lowest_and_shrinking_the_highest_of_its_window() -> None:
    how = behavior(rules(("Percent", 1000, 15), window=60), rules(("Percent", 100, 15), window=120))
    up = limited(20, 10, how, past((15, 30), (12, 59), (11, 60)))
    assert (up.replicas, up.able) == (12, UP_STABILIZED)
    down = limited(2, 10, how, past((4, 30), (8, 119), (9, 120)))
    assert (down.replicas, down.able) == (8, DOWN_STABILIZED)


def test_a_direction_that_its_window_does_not_agree_with_stays() -> None:
    how = behavior(rules(("Pods", 100, 15), window=60), rules(("Pods", 100, 15), window=60))
    assert limited(20, 10, how, past((3, 10))).replicas == 10
    assert limited(3, 10, how, past((20, 10))).replicas == 10


@pytest.mark.parametrize(
    ("policies", "select", "current", "replicas"),
    [
        ((("Pods", 4, 60), ("Percent", 100, 60)), None, 10, 20),
        ((("Pods", 4, 60), ("Percent", 100, 60)), "Max", 2, 6),
        ((("Pods", 4, 60), ("Percent", 100, 60)), "Min", 10, 14),
        ((("Pods", 4, 60), ("Percent", 100, 60)), "Disabled", 10, 10),
        ((("Percent", 10, 60),), None, 5, 6),
    ],
)
def test_growth_is_limited_by_the_policy_that_is_selected(
    policies: Any, select: str | None, current: int, replicas: int
) -> None:
    answer = limited(500, current, behavior(rules(*policies, select=select)))
    assert (answer.replicas, answer.limited) == (replicas, UP_LIMIT)


@pytest.mark.parametrize(
    ("policies", "select", "current", "replicas"),
    [
        ((("Pods", 4, 60), ("Percent", 50, 60)), None, 10, 5),
        ((("Pods", 4, 60), ("Percent", 50, 60)), "Min", 10, 6),
        ((("Pods", 4, 60), ("Percent", 50, 60)), "Disabled", 10, 10),
        ((("Percent", 10, 60),), None, 5, 4),
    ],
)
def test_shrinking_is_limited_by_the_policy_that_is_selected(
    policies: Any, select: str | None, current: int, replicas: int
) -> None:
    answer = limited(1, current, behavior(down=rules(*policies, select=select)))
    assert (answer.replicas, answer.limited) == (replicas, DOWN_LIMIT)


def test_a_rate_counts_from_where_its_period_began() -> None:
    how = behavior(rules(("Pods", 4, 60)), rules(("Pods", 4, 60)))
    moved = HpaState(
        added=(ScaleEvent(3, NOW - 30), ScaleEvent(9, NOW - 60)), removed=(ScaleEvent(1, NOW - 10),)
    )
    # It began at 10 - 3 + 1.
    assert limited(50, 10, how, moved).replicas == 12
    assert limited(1, 10, how, moved).replicas == 4


def test_a_rate_that_is_used_up_holds_and_never_moves_against_the_wish() -> None:
    how = behavior(rules(("Pods", 4, 60)), rules(("Pods", 4, 60)))
    grown = HpaState(added=(ScaleEvent(9, NOW - 30),))
    assert limited(50, 20, how, grown).replicas == 20
    shrunk = HpaState(removed=(ScaleEvent(9, NOW - 30),))
    assert limited(1, 20, how, shrunk).replicas == 20


def test_with_behaviour_the_bounds_have_the_last_word() -> None:
    how = behavior(rules(("Pods", 100, 60)), rules(("Pods", 100, 60)))
    assert limited(50, 10, how, most=15).limited == TOO_MANY
    assert limited(1, 10, how, least=3).limited == TOO_FEW
    within = limited(12, 10, how)
    assert (within.limited, within.able) == (WITHIN, READY)


def test_events_are_kept_as_long_as_the_longest_period_and_only_with_behaviour() -> None:
    how = behavior(rules(("Pods", 4, 60)), rules(("Pods", 4, 120)))
    old = HpaState(added=(ScaleEvent(1, NOW - 119), ScaleEvent(1, NOW - 120)))
    grown = after_scaling(old, how, SETTINGS, 3, NOW)
    assert grown.added == (ScaleEvent(1, NOW - 119), ScaleEvent(3, NOW))
    assert after_scaling(old, how, SETTINGS, -2, NOW).removed == (ScaleEvent(2, NOW),)
    assert after_scaling(old, None, SETTINGS, 3, NOW) == old


@given(
    wishes=st.lists(st.integers(1, 100), min_size=1, max_size=40),
    policy=st.tuples(st.sampled_from(["Pods", "Percent"]), st.integers(1, 50), st.integers(15, 120)),
)
def test_no_period_sees_more_growth_than_its_policy_allows(
    wishes: list[int], policy: tuple[str, int, int]
) -> None:
    how = behavior(rules(policy), rules(("Percent", 100, 15)))
    kind, value, period_s = policy
    state, current, sizes = HpaState(), 10, [(NOW - 15.0, 10)]
    for tick, wish in enumerate(wishes):
        now = NOW + 15.0 * tick
        answer = limit(wish, Bounds(current, 1, 1000), how, state, SETTINGS, now)
        assert min(current, wish) <= answer.replicas <= max(current, wish)
        state = answer.state
        if answer.replicas != current:
            state = after_scaling(state, how, SETTINGS, answer.replicas - current, now)
        if answer.replicas > current:
            began = [size for at, size in sizes if at <= now - period_s]
            start = began[-1] if began else sizes[0][1]
            most = start + value if kind == "Pods" else -(-start * (100 + value) // 100)
            assert answer.replicas <= most
        current = answer.replicas
        sizes.append((now, current))
