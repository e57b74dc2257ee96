"""The number of pods that one metric would have: groups of pods, truncation, tolerance, assumptions about what is not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.hpa_replicas import (
    MAX_REPLICAS,
    Counted,
    HpaSettings,
    Pods,
    PodSample,
    PodState,
    Problem,
    Tolerances,
    by_average,
    by_average_value,
    by_utilization,
    by_value,
    group,
)

NOW = 1_800_000_000.0
SETTINGS = HpaSettings()
TOLERANCES = Tolerances()


def pod(name: str, request_milli: int = 1000, **fields: Any) -> PodState:
    made = PodState(name, started_at=NOW - 3600, requests_milli={"main": {"cpu": request_milli}})
    return replace(made, **fields)


def seen(
    pods: list[PodState], usage_milli: list[int | None], resource: str = "cpu", container: str = ""
) -> Pods:
    samples = {p.name: PodSample(u) for p, u in zip(pods, usage_milli, strict=True) if u is not None}
    return Pods(tuple(pods), samples, resource, container)


def pods(count: int, **fields: Any) -> list[PodState]:
    return [pod(f"p{i}", **fields) for i in range(count)]


def utilization(
    view: Pods, target: int, current: int, tolerances: Tolerances = TOLERANCES
) -> Counted | Problem:
    return by_utilization(view, target, current, tolerances, SETTINGS, NOW)


def average(view: Pods, target_milli: int, current: int) -> Counted | Problem:
    return by_average(view, target_milli, current, TOLERANCES, SETTINGS, NOW)


@pytest.mark.parametrize(
    ("usage", "target", "current", "wanted", "percent"),
    [
        ([300, 500, 700], 30, 3, 5, 50),
        ([100, 300, 500, 250, 250], 50, 5, 3, 28),
        ([1010, 1030, 1020], 100, 3, 3, 102),
        ([400, 500], 80, 2, 2, 45),
    ],
)
def test_utilisation_is_the_sum_of_usage_over_the_sum_of_requests(
    usage: list[int], target: int, current: int, wanted: int, percent: int
) -> None:
    answer = utilization(seen(pods(len(usage)), list(usage)), target, current)
    assert answer == Counted(wanted, sum(usage) // len(usage), percent)


def test_utilisation_is_cut_to_a_whole_percent_before_it_is_compared() -> None:
    answer = utilization(seen(pods(6), [100, 200, 200, 200, 200, 100]), 16, 6)
    assert answer == Counted(6, 166, 16)


def test_a_pod_without_a_request_makes_utilisation_unknowable() -> None:
    bare = replace(pod("p1"), requests_milli={"main": {"cpu": 500}, "side": {}})
    answer = utilization(seen([pod("p0"), bare], [100, 100]), 50, 2)
    assert answer == Problem("missing request for cpu in container side of Pod p1")


def test_what_a_pod_reserves_as_a_whole_comes_before_what_its_containers_do() -> None:
    whole = replace(pod("p0"), requests_milli={"main": {}}, pod_requests_milli={"cpu": 500})
    assert utilization(seen([whole], [500]), 50, 1) == Counted(2, 500, 100)
    lacking = replace(whole, pod_requests_milli={"memory": 5})
    assert utilization(seen([lacking], [500]), 50, 1) == Problem(
        "missing pod-level request for cpu in Pod p0"
    )


def test_one_container_is_measured_against_its_own_request() -> None:
    two = replace(pod("p0"), requests_milli={"main": {"cpu": 1000}, "side": {}})
    assert utilization(seen([two], [900], container="main"), 30, 1) == Counted(3, 900, 90)
    assert utilization(seen([two], [900], container="none"), 30, 1) == Problem(
        "container none not found in Pod p0"
    )


def test_pods_that_reserve_nothing_have_no_utilisation() -> None:
    assert utilization(seen(pods(1, request_milli=0), [100]), 50, 1) == Problem(
        "no metrics returned matched known pods"
    )


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (seen([], []), "no pods returned by selector"),
        (seen(pods(2), [None, None]), "did not receive metrics for targeted pods (pods might be unready)"),
    ],
)
def test_without_pods_or_samples_there_is_no_answer(view: Pods, message: str) -> None:
    for answer in (utilization(view, 50, 2), average(view, 500, 2)):
        assert isinstance(answer, Problem)
        assert answer.message.startswith(message)


def test_pods_are_grouped_by_what_their_sample_is_worth() -> None:
    old = NOW - 3600
    every = [
        pod("deleted", deleted=True),
        pod("failed", phase="Failed"),
        pod("pending", phase="Pending"),
        pod("silent"),
        pod("no-start", started_at=None),
        pod("no-condition", ready=None),
        pod("starts", started_at=NOW - 10, ready=False),
        pod("just-ready", started_at=NOW - 60, ready_changed_at=NOW - 20),
        pod("never-ready", started_at=old, ready=False, ready_changed_at=old + 29),
        pod("broke-later", started_at=old, ready=False, ready_changed_at=old + 31),
        pod("ready-a-window-ago", started_at=NOW - 60, ready_changed_at=NOW - 30),
        pod("ready"),
    ]
    samples = {p.name: PodSample(1, NOW, 30.0) for p in every if p.name != "silent"}
    groups = group(Pods(tuple(every), samples, "cpu"), SETTINGS, NOW)
    assert groups.ignored == {"deleted", "failed"}
    assert groups.missing == {"silent"}
    assert groups.unready == {"pending", "no-start", "no-condition", "starts", "just-ready", "never-ready"}
    assert groups.ready == 3
    memory = group(Pods(tuple(every), samples, "memory"), SETTINGS, NOW)
    assert memory.unready == {"pending"}


def test_growing_counts_unready_and_silent_pods_as_idle() -> None:
    unready = [pod("p0"), pod("p1"), pod("p2", phase="Pending")]
    # 90 % of two pods would make six; over three pods it is 60 %, which makes four.
    assert utilization(seen(unready, [900, 900, 500]), 50, 3) == Counted(4, 900, 90)
    assert utilization(seen(pods(3), [900, 900, None]), 50, 3) == Counted(4, 900, 90)


def test_shrinking_counts_silent_pods_as_full_and_leaves_unready_ones_out() -> None:
    assert utilization(seen(pods(5), [100, 100, 100, 100, None]), 50, 5) == Counted(3, 100, 10)
    waiting = [*pods(4), pod("p4", phase="Pending")]
    assert utilization(seen(waiting, [100, 100, 100, 100, None]), 50, 5) == Counted(1, 100, 10)


def test_a_target_above_full_is_what_silent_pods_are_taken_for() -> None:
    # At the target of 300 % the silent pod uses three times its request.
    assert utilization(seen(pods(2), [200, None]), 300, 2) == Counted(2, 200, 20)
    assert utilization(seen(pods(4), [200, 200, 200, None]), 300, 4) == Counted(2, 200, 20)


def test_assumptions_never_turn_the_direction_round() -> None:
    assert utilization(seen(pods(4), [600, None, None, None]), 50, 4) == Counted(4, 600, 60)
    assert utilization(seen(pods(4), [400, None, None, None]), 50, 4) == Counted(4, 400, 40)


def test_more_pods_than_wanted_do_not_turn_growth_into_shrinking() -> None:
    assert utilization(seen(pods(4), [1000, 1000, 1000, None]), 70, 8) == Counted(8, 1000, 100)


@pytest.mark.parametrize(
    ("usage", "target", "current", "wanted"),
    [([20_000, 10_000, 30_000], 15_000, 3, 4), ([12_000] * 5, 20_000, 5, 3), ([20_000] * 3, 20_500, 3, 3)],
)
def test_metrics_of_pods_are_compared_as_a_mean(
    usage: list[int], target: int, current: int, wanted: int
) -> None:
    answer = average(seen(pods(len(usage)), list(usage), ""), target, current)
    assert answer == Counted(wanted, sum(usage) // len(usage))


def test_silent_pods_of_a_mean_are_on_target_when_shrinking_and_idle_when_growing() -> None:
    assert average(seen(pods(3), [1000, 1000, None], ""), 10_000, 3) == Counted(2, 1000)
    assert average(seen(pods(3), [50_000, 50_000, None], ""), 10_000, 3) == Counted(10, 50_000)


def test_a_value_is_shared_by_the_pods_that_are_ready() -> None:
    some = (*pods(2), pod("p2", ready=False), pod("p3", phase="Pending"))
    assert by_value(30_000, 20_000, 4, some, TOLERANCES) == Counted(3, 30_000)
    assert by_value(20_500, 20_000, 4, some, TOLERANCES) == Counted(4, 20_500)


def test_from_zero_a_value_counts_without_tolerance() -> None:
    assert by_value(20_001, 20_000, 0, (), TOLERANCES) == Counted(2, 20_001)
    assert by_value(0, 20_000, 0, (), TOLERANCES) == Counted(0, 0)


def test_a_value_per_pod_is_shared_by_the_pods_that_exist() -> None:
    assert by_average_value(90_000, 10_000, 3, TOLERANCES) == Counted(9, 30_000)
    assert by_average_value(32_000, 10_000, 3, TOLERANCES) == Counted(3, 10_667)
    assert by_average_value(25_000, 10_000, 0, TOLERANCES) == Counted(3, 25_000)


def test_no_metric_asks_for_more_pods_than_can_be_counted() -> None:
    assert by_average_value(2**63 - 1, 1, 3, TOLERANCES).replicas == MAX_REPLICAS
    assert by_value(2**63 - 1, 1, 3, tuple(pods(3)), TOLERANCES) == Counted(MAX_REPLICAS, 2**63 - 1)


@pytest.mark.parametrize(("ratio", "holds"), [(0.9, True), (1.1, True), (0.89, False), (1.11, False)])
def test_the_edges_of_the_tolerance_belong_to_it(ratio: float, holds: bool) -> None:
    assert Tolerances().hold(ratio) is holds


@given(
    usage=st.lists(st.one_of(st.none(), st.integers(0, 3000)), min_size=1, max_size=12),
    target=st.integers(1, 200),
)
def test_unknown_pods_never_make_a_change_larger_than_the_known_ones_would(
    usage: list[int | None], target: int
) -> None:
    count = len(usage)
    known = [u for u in usage if u is not None]
    answer = utilization(seen(pods(count), usage), target, count)
    if not known:
        assert isinstance(answer, Problem)
        return
    assert isinstance(answer, Counted)
    percent = 100 * sum(known) // (1000 * len(known))
    assert answer.utilization == percent
    if percent >= target:
        assert count <= answer.replicas <= max(count, -(-count * percent // target))
    else:
        assert answer.replicas <= count
