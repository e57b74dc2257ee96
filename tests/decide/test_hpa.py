"""One sync of a HorizontalPodAutoscaler: the greatest proposal counts, failures never shrink, conditions tell all."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from penstock.decide.hpa import (
    HpaInput,
    HpaPlan,
    failed_to_scale,
    plan_hpa,
    with_condition,
    without_scale,
)
from penstock.decide.hpa_behavior import HpaState, Recommendation
from penstock.decide.hpa_metric import PodReadings, Reading, Unread, ValueReadings
from penstock.decide.hpa_replicas import PodSample, PodState
from penstock.kit.timestamps import rfc3339
from penstock.resources.autoscaling import HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus

NOW = 1_800_000_000.0
TARGET = {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}
CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
}
QUEUE = {
    "type": "External",
    "external": {"metric": {"name": "depth"}, "target": {"type": "AverageValue", "averageValue": "10"}},
}
RATE = {
    "type": "Pods",
    "pods": {"metric": {"name": "rate"}, "target": {"type": "AverageValue", "averageValue": "10"}},
}
PORTAL = {
    "type": "Object",
    "object": {
        "describedObject": {"kind": "Service", "name": "web"},
        "metric": {"name": "hits"},
        "target": {"type": "Value", "value": "100"},
    },
}


def spec(*metrics: Any, **fields: Any) -> HorizontalPodAutoscalerSpec:
    document = {
        "scaleTargetRef": TARGET,
        "minReplicas": 1,
        "maxReplicas": 10,
        "metrics": metrics or (CPU,),
        **fields,
    }
    return convert(document, HorizontalPodAutoscalerSpec)


def pods(count: int, request_milli: int = 1000) -> tuple[PodState, ...]:
    return tuple(
        PodState(f"p{i}", started_at=NOW - 3600, requests_milli={"main": {"cpu": request_milli}})
        for i in range(count)
    )


def each(count: int, milli: int) -> PodReadings:
    return PodReadings({f"p{i}": PodSample(milli) for i in range(count)})


def sync(
    of: HorizontalPodAutoscalerSpec,
    wanted: int,
    *readings: Reading,
    state: HpaState | None = None,
    **fields: Any,
) -> HpaPlan:
    old = HpaState((Recommendation(0, NOW - 10_000),)) if state is None else state
    seen = HpaInput(of, wanted, wanted, pods=pods(wanted), readings=readings, **fields)
    return plan_hpa(seen, old, NOW)


def conditions(plan: HpaPlan) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in plan.status.conditions}


def test_usage_above_its_target_grows_the_target_and_says_why() -> None:
    plan = sync(spec(), 3, each(3, 800))
    assert (plan.desired, plan.rescale) == (5, True)
    assert plan.events == (
        (
            "Normal",
            "SuccessfulRescale",
            "New size: 5; reason: cpu resource utilization (percentage of request) above target",
        ),
    )
    assert conditions(plan) == {
        "AbleToScale": ("True", "SucceededRescale"),
        "ScalingActive": ("True", "ValidMetricFound"),
        "ScalingLimited": ("False", "DesiredWithinRange"),
    }
    assert plan.status.last_scale_time == rfc3339(NOW)
    current = plan.status.current_metrics[0].resource
    assert current is not None
    assert (current.current.average_utilization, current.current.average_value) == (80, "800m")


def test_usage_below_its_target_shrinks_it() -> None:
    plan = sync(spec(), 5, each(5, 200))
    assert (plan.desired, plan.rescale_reason) == (2, "All metrics below target")


def test_the_greatest_proposal_counts_and_the_next_is_the_runner_up() -> None:
    plan = sync(spec(CPU, QUEUE), 3, each(3, 800), ValueReadings((60_000,)))
    assert (plan.desired, plan.proposals) == (6, (5, 6))
    assert plan.rescale_reason == "external metric depth(nil) above target"
    assert plan.runner_up.startswith("5, which cpu resource utilization")


def test_a_failing_metric_forbids_to_shrink() -> None:
    plan = sync(spec(CPU, QUEUE), 5, each(5, 100), Unread("no metrics returned from external metrics API"))
    assert (plan.desired, plan.rescale) == (5, False)
    assert conditions(plan)["ScalingActive"] == ("False", "FailedGetExternalMetric")
    assert [reason for _, reason, _ in plan.events] == [
        "FailedGetExternalMetric",
        "FailedComputeMetricsReplicas",
    ]


def test_a_failing_metric_does_not_keep_others_from_growing() -> None:
    plan = sync(spec(CPU, QUEUE), 3, each(3, 800), Unread("no metrics returned from external metrics API"))
    assert (plan.desired, plan.rescale) == (5, True)
    assert conditions(plan)["ScalingActive"] == ("True", "ValidMetricFound")


def test_when_all_metrics_fail_nothing_changes_and_the_first_says_why() -> None:
    status = HorizontalPodAutoscalerStatus(desired_replicas=4)
    plan = sync(spec(CPU, QUEUE), 3, PodReadings({}), Unread("gone"), status=status)
    assert (plan.desired, plan.rescale, plan.status.desired_replicas) == (3, False, 4)
    active = next(c for c in plan.status.conditions if c.type == "ScalingActive")
    assert active.reason == "FailedGetResourceMetric"
    assert active.message == (
        "the HPA was unable to compute the replica count: failed to get cpu utilization: did not receive metrics for"
        " targeted pods (pods might be unready)"
    )
    assert plan.events[-1] == (
        "Warning",
        "FailedComputeMetricsReplicas",
        "invalid metrics (2 invalid out of 2), first error is: failed to get cpu resource metric value: failed to get cpu"
        " utilization: did not receive metrics for targeted pods (pods might be unready)",
    )


@pytest.mark.parametrize(
    ("metric", "reading", "reason", "message"),
    [
        (RATE, Unread("no answer"), "FailedGetPodsMetric", "unable to get metric rate: no answer"),
        (
            PORTAL,
            Unread("no answer"),
            "FailedGetObjectMetric",
            "unable to get metric hits: no answer on Service default/web",
        ),
        (
            QUEUE,
            Unread("no answer"),
            "FailedGetExternalMetric",
            "unable to get external metric default/depth/nil: no answer",
        ),
        (
            QUEUE,
            ValueReadings((-1000,)),
            "FailedGetExternalMetric",
            "unable to get external metric default/depth/nil: found -1, expected a value of 0 or more",
        ),
        (
            RATE,
            each(3, -500),
            "FailedGetPodsMetric",
            "unable to get metric rate: found -500m, expected a value of 0 or more",
        ),
    ],
)
def test_a_metric_that_cannot_be_used_is_named_and_never_scaled_upon(
    metric: Any, reading: Reading, reason: str, message: str
) -> None:
    plan = sync(spec(metric), 3, reading)
    assert not plan.rescale
    assert plan.events[0] == ("Warning", reason, message)


def test_metrics_of_pods_objects_and_outside_are_shown_as_measured() -> None:
    plan = sync(
        spec(RATE, PORTAL, QUEUE), 3, each(3, 20_000), ValueReadings((200_000,)), ValueReadings((40_000,))
    )
    assert plan.proposals == (6, 6, 4)
    shown = plan.status.current_metrics
    assert shown[0].pods is not None
    assert shown[0].pods.current.average_value == "20"
    assert shown[1].object is not None
    assert shown[1].object.current.value == "200"
    assert shown[2].external is not None
    assert shown[2].external.current.average_value == "13334m"


def test_a_target_at_zero_is_left_alone_unless_zero_is_allowed() -> None:
    plan = sync(spec(), 0, PodReadings({}))
    assert (plan.desired, plan.rescale) == (0, False)
    assert conditions(plan)["ScalingActive"] == ("False", "ScalingDisabled")
    woken = sync(spec(QUEUE, minReplicas=0), 0, ValueReadings((25_000,)))
    assert (woken.desired, woken.rescale) == (3, True)


def test_with_a_least_number_of_zero_a_silent_metric_scales_to_zero() -> None:
    plan = sync(spec(QUEUE, minReplicas=0), 2, ValueReadings((0,)))
    assert (plan.desired, plan.rescale) == (0, True)


@pytest.mark.parametrize(
    ("wanted", "desired", "why"),
    [
        (12, 10, "Current number of replicas above Spec.MaxReplicas"),
        (1, 2, "Current number of replicas below Spec.MinReplicas"),
    ],
)
def test_a_number_outside_its_bounds_is_brought_inside_without_asking_metrics(
    wanted: int, desired: int, why: str
) -> None:
    plan = sync(spec(minReplicas=2), wanted, Unread("not asked"))
    assert (plan.desired, plan.rescale_reason) == (desired, why)
    assert "ScalingActive" not in conditions(plan)


def test_a_selector_that_cannot_be_used_is_told_and_nothing_changes() -> None:
    fault = (
        "AmbiguousSelector",
        "pods by selector app=web are controlled by multiple HPAs: [default/a default/b]",
    )
    plan = sync(spec(), 3, each(3, 900), forbidden=fault)
    assert not plan.rescale
    assert conditions(plan)["ScalingActive"] == ("False", "AmbiguousSelector")


@pytest.mark.parametrize("wanted", [0, 1, 3, 11])
def test_what_has_another_master_is_not_even_brought_within_bounds(wanted: int) -> None:
    plan = sync(spec(minReplicas=2), wanted, Unread("not asked"), rival="PodAutoscaler a came first")
    assert (plan.rescale, plan.desired) == (False, wanted)
    assert conditions(plan)["ScalingActive"] == ("False", "ConflictingAutoscaler")


def test_the_greatest_number_limits_and_says_so() -> None:
    plan = sync(spec(maxReplicas=4), 3, each(3, 1000))
    assert plan.desired == 4
    assert conditions(plan)["ScalingLimited"] == ("True", "TooManyReplicas")
    assert plan.runner_up == "6, which the metrics ask for"


def test_after_a_restart_what_runs_holds_for_the_whole_window() -> None:
    plan = sync(spec(), 8, each(8, 10), state=HpaState())
    assert (plan.desired, plan.rescale) == (8, False)
    assert conditions(plan)["AbleToScale"] == ("True", "ScaleDownStabilized")
    later = plan_hpa(HpaInput(spec(), 8, 8, pods=pods(8), readings=(each(8, 10),)), plan.state, NOW + 301)
    assert later.desired == 1


def test_without_metrics_eighty_percent_of_cpu_is_the_target() -> None:
    bare = convert({"scaleTargetRef": TARGET, "maxReplicas": 10}, HorizontalPodAutoscalerSpec)
    assert sync(bare, 4, each(4, 1000)).desired == 5


def test_a_direction_may_have_its_own_tolerance() -> None:
    wide = spec(behavior={"scaleUp": {"tolerance": "0.5"}, "scaleDown": {"stabilizationWindowSeconds": 0}})
    assert not sync(wide, 4, each(4, 700)).rescale
    assert sync(wide, 4, each(4, 800)).desired == 7
    assert sync(wide, 4, each(4, 350)).desired == 3


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = with_condition((), "AbleToScale", "True", "A", "a", 100.0)
    second = with_condition(first, "AbleToScale", "True", "B", "b", 200.0)
    third = with_condition(second, "AbleToScale", "False", "C", "c", 300.0)
    assert [c[0].last_transition_time for c in (first, second, third)] == [
        rfc3339(100),
        rfc3339(100),
        rfc3339(300),
    ]


def test_a_number_that_could_not_be_written_is_told_and_not_remembered() -> None:
    fast = spec(behavior={"scaleUp": {"stabilizationWindowSeconds": 0}})
    before = HpaState((Recommendation(3, NOW - 5),))
    seen = HpaInput(fast, 3, 3, pods=pods(3), readings=(each(3, 800),))
    plan = plan_hpa(seen, before, NOW)
    assert plan.state.added
    failed = failed_to_scale(seen, plan, before, "the store is full", NOW)
    assert conditions(failed)["AbleToScale"] == ("False", "FailedUpdateScale")
    assert (failed.rescale, failed.state.added, failed.status.last_scale_time) == (False, (), None)
    assert failed.events[0][1] == "FailedRescale"


def test_a_target_that_cannot_be_read_is_told() -> None:
    status = without_scale(HorizontalPodAutoscalerStatus(), 'deployments.apps "web" not found', NOW)
    assert [(c.type, c.status, c.reason) for c in status.conditions] == [
        ("AbleToScale", "False", "FailedGetScale")
    ]


@given(
    wanted=st.integers(1, 30),
    usage=st.integers(0, 5000),
    least=st.integers(1, 10),
    span=st.integers(0, 20),
)
def test_the_answer_is_within_the_bounds_and_never_against_the_metrics(
    wanted: int, usage: int, least: int, span: int
) -> None:
    of = spec(minReplicas=least, maxReplicas=least + span)
    plan = sync(of, wanted, each(wanted, usage))
    assert least <= plan.desired <= least + span
    inside = least <= wanted <= least + span
    if inside and usage > 560:
        assert plan.desired >= wanted
    if inside and usage < 450:
        assert plan.desired <= wanted


@given(share=st.floats(0.91, 1.09), wanted=st.integers(1, 10))
def test_within_the_tolerance_nothing_changes(share: float, wanted: int) -> None:
    plan = sync(spec(QUEUE), wanted, ValueReadings((math.floor(10_000 * wanted * share),)))
    assert not plan.rescale
