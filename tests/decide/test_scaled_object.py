"""KEDA's loop between nothing and one: tables, and properties as sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.trigger import Reading
from penstock.decide.scaled_object import Poll, Round, poll
from penstock.decide.scaled_object_hpa import metric_name, plan_hpa
from penstock.decide.scaled_object_metrics import Metric, Observed, Scale, Served, compose, observe, serve
from penstock.decide.scaled_object_status import plan_status
from penstock.kit.timestamps import rfc3339
from penstock.resources import keda
from penstock.resources.autoscaling import HorizontalPodAutoscalerBehavior, HPAScalingRules
from penstock.resources.keda import (
    Advanced,
    Fallback,
    HorizontalPodAutoscalerConfig,
    ScaledObject,
    ScaledObjectSpec,
    ScaledObjectStatus,
    ScaleTarget,
    ScaleTrigger,
    ScalingModifiers,
)
from penstock.resources.meta import ObjectMeta

NOW = 1_800_000_000.0
TRIGGER = ScaleTrigger(type="redis", metadata={"listName": "jobs", "address": "h:1"})
CPU = ScaleTrigger(type="cpu", metadata={"value": "60"})
METRIC = Metric("s0-redis-jobs", "redis", 5.0)


def scaled(
    *triggers: ScaleTrigger,
    last_active: float | None = None,
    created: float = NOW - 10_000,
    annotations: dict[str, str] | None = None,
    status: dict[str, object] | None = None,
    **spec: object,
) -> ScaledObject:
    moment = None if last_active is None else rfc3339(last_active)
    return ScaledObject(
        metadata=ObjectMeta(
            name="web",
            namespace="default",
            uid="u",
            creation_timestamp=rfc3339(created),
            annotations=annotations or {},
        ),
        spec=ScaledObjectSpec(
            scale_target_ref=ScaleTarget(name="web"), triggers=triggers or (TRIGGER,), **spec
        ),
        status=ScaledObjectStatus(last_active_time=moment, **(status or {})),
    )


def seen(
    value: float | None = None, *, active: bool | None = None, failures: int = 1, metric: Metric = METRIC
) -> Observed:
    if value is None:
        return Observed(metric, None, "it is down", failures)
    return Observed(metric, Reading(value=value, active=value > 0 if active is None else active))


ACTIVE, QUIET, DOWN = seen(7.0), seen(0.0), seen()
IDLE = {"idle_replica_count": 0, "min_replica_count": 2}
LONG_AGO = NOW - 1000


def decided(
    given: ScaledObject, replicas: int, *observed: Observed, composite: Served | None = None
) -> Round:
    return poll(Poll(given, replicas, observed, composite), NOW)


def cond(found: Round, type_: str) -> tuple[str, str]:
    [condition] = [c for c in found.conditions if c.type == type_]
    return condition.status, condition.reason


@pytest.mark.parametrize(
    ("given", "replicas", "observed", "wanted"),
    [
        # active
        (scaled(), 0, (ACTIVE,), 1),
        (scaled(min_replica_count=3), 0, (ACTIVE,), 3),
        (scaled(), 1, (ACTIVE,), None),
        (scaled(), 50, (ACTIVE,), None),
        (scaled(**IDLE), 0, (ACTIVE,), 2),
        (scaled(idle_replica_count=1, min_replica_count=3), 1, (ACTIVE,), 3),
        (scaled(idle_replica_count=1, min_replica_count=3), 3, (ACTIVE,), None),
        (scaled(min_replica_count=3), 1, (ACTIVE,), None),  # the autoscaler lifts it
        (scaled(), 0, (QUIET, ACTIVE), 1),  # any
        (scaled(), 0, (seen(3.0, active=False),), None),  # not above its threshold
        # quiet
        (scaled(last_active=LONG_AGO), 4, (QUIET,), 0),
        (scaled(last_active=NOW - 300), 4, (QUIET,), None),  # just at its end, not after it
        (scaled(last_active=NOW - 301), 4, (QUIET,), 0),
        (scaled(last_active=NOW - 20, cooldown_period=10), 4, (QUIET,), 0),
        (scaled(last_active=NOW - 1, cooldown_period=0), 4, (QUIET,), 0),
        (scaled(), 4, (QUIET,), 0),  # never active, no initial cooldown
        (scaled(created=NOW - 50, initial_cooldown_period=60), 4, (QUIET,), None),
        (scaled(created=NOW - 61, initial_cooldown_period=60), 4, (QUIET,), 0),
        (scaled(created=NOW - 50, initial_cooldown_period=60, last_active=LONG_AGO), 4, (QUIET,), 0),
        (scaled(last_active=LONG_AGO, **IDLE), 4, (QUIET,), 0),
        (scaled(last_active=LONG_AGO, idle_replica_count=1, min_replica_count=3), 4, (QUIET,), 1),
        (scaled(last_active=LONG_AGO, idle_replica_count=1, min_replica_count=3), 1, (QUIET,), None),
        (scaled(last_active=LONG_AGO, min_replica_count=2), 4, (QUIET,), None),  # the autoscaler takes it down
        (scaled(last_active=LONG_AGO, min_replica_count=2), 1, (QUIET,), 2),
        (scaled(min_replica_count=2), 0, (QUIET,), 2),
        (scaled(), 0, (QUIET,), None),
        # what cannot be read
        (scaled(), 0, (DOWN,), None),
        (scaled(last_active=LONG_AGO), 4, (DOWN,), None),
        (scaled(last_active=LONG_AGO), 4, (QUIET, DOWN), None),
        (scaled(), 0, (ACTIVE, DOWN), 1),
        (scaled(min_replica_count=2), 0, (DOWN,), None),
        # a fallback
        (scaled(fallback=Fallback(failure_threshold=3, replicas=2)), 0, (seen(failures=9),), None),
        (scaled(fallback=Fallback(failure_threshold=3, replicas=0)), 4, (seen(failures=3),), None),
        (scaled(fallback=Fallback(failure_threshold=3, replicas=0)), 4, (seen(failures=4),), 0),
        (scaled(fallback=Fallback(failure_threshold=3, replicas=0, behavior="currentReplicas")), 4, (seen(failures=4),), None),
        # only cpu: it is never put to sleep
        (scaled(CPU, min_replica_count=1, last_active=LONG_AGO), 1, (), None),
        (scaled(CPU, min_replica_count=1), 0, (), 1),
        (scaled(CPU, TRIGGER, last_active=LONG_AGO), 3, (QUIET,), 0),
        # annotations
        (scaled(annotations={keda.FORCE_ACTIVATION: "true"}), 0, (QUIET,), 1),
        (scaled(annotations={keda.FORCE_ACTIVATION: "true"}), 0, (DOWN,), 1),
        (scaled(annotations={keda.FORCE_ACTIVATION: "true"}, last_active=LONG_AGO), 3, (QUIET,), None),
        (scaled(annotations={keda.FORCE_ACTIVATION: "false"}), 0, (QUIET,), None),
        (scaled(annotations={keda.PAUSED_SCALE_OUT: "true"}), 0, (ACTIVE,), None),
        (scaled(annotations={keda.PAUSED_SCALE_OUT: "true"}, min_replica_count=2), 1, (QUIET,), None),
        (scaled(annotations={keda.PAUSED_SCALE_OUT: "true"}, last_active=LONG_AGO), 4, (QUIET,), 0),
        (scaled(annotations={keda.PAUSED_SCALE_IN: "true"}, last_active=LONG_AGO), 4, (QUIET,), None),
        (scaled(annotations={keda.PAUSED_SCALE_IN: "true"}), 0, (ACTIVE,), 1),
        (scaled(annotations={keda.PAUSED: "true"}), 0, (ACTIVE,), None),
        (scaled(annotations={keda.PAUSED: "true"}, last_active=LONG_AGO), 3, (QUIET,), None),
        (scaled(annotations={keda.PAUSED_REPLICAS: "3"}), 0, (), 3),
        (scaled(annotations={keda.PAUSED_REPLICAS: "0"}), 5, (), 0),
        (scaled(annotations={keda.PAUSED_REPLICAS: "3"}, status={"paused_replica_count": 3}), 5, (), None),
        (scaled(annotations={keda.PAUSED_REPLICAS: "3"}, status={"paused_replica_count": 1}), 5, (), 3),
    ],
)  # fmt: skip
def test_what_the_loop_writes(
    given: ScaledObject, replicas: int, observed: tuple[Observed, ...], wanted: int | None
) -> None:
    found = decided(given, replicas, *observed)
    assert found.replicas == wanted
    assert found.reasons
    assert wanted is None or found.runner_up or keda.PAUSED_REPLICAS in given.metadata.annotations


@pytest.mark.parametrize(
    ("observed", "ready", "active"),
    [
        ((ACTIVE,), ("True", "ScaledObjectReady"), ("True", "ScalerActive")),
        ((QUIET,), ("True", "ScaledObjectReady"), ("False", "ScalerNotActive")),
        ((DOWN,), ("False", "TriggerError"), ("False", "ScalerNotActive")),
        ((DOWN, DOWN), ("False", "TriggerError"), ("False", "ScalerNotActive")),
        ((DOWN, QUIET), ("Unknown", "PartialTriggerError"), ("False", "ScalerNotActive")),
        ((DOWN, ACTIVE), ("Unknown", "PartialTriggerError"), ("True", "ScalerActive")),
    ],
)
def test_what_the_conditions_say(
    observed: tuple[Observed, ...], ready: tuple[str, str], active: tuple[str, str]
) -> None:
    found = decided(scaled(min_replica_count=1), 1, *observed)
    assert (cond(found, "Ready"), cond(found, "Active")) == (ready, active)
    assert cond(found, "Paused")[0] == cond(found, "Fallback")[0] == "False"


def test_while_it_cools_down_it_says_so() -> None:
    found = decided(scaled(last_active=NOW - 100), 2, QUIET)
    assert cond(found, "Active") == ("False", "ScalerCooldown")
    assert found.reasons[-1] == "cooling down for 200 s more"
    assert found.runner_up == "go to 0"


def test_a_clock_that_went_back_keeps_nothing_up_for_longer_than_a_cooldown() -> None:
    found = decided(scaled(last_active=NOW + 1e6), 2, QUIET)
    assert found.replicas is None
    assert found.last_active_at == NOW


def test_events_are_keda_s() -> None:
    assert decided(scaled(), 0, ACTIVE).event == (
        "KEDAScaleTargetActivated",
        "Scaled apps/v1.Deployment default/web from 0 to 1, triggered by s0-redis-jobs",
    )
    forced = scaled(annotations={keda.FORCE_ACTIVATION: "true"})
    assert decided(forced, 0, QUIET).event == (
        "KEDAScaleTargetActivated",
        "Scaled apps/v1.Deployment default/web from 0 to 1, caused by forced activation annotation",
    )
    assert decided(scaled(last_active=LONG_AGO), 3, QUIET).event == (
        "KEDAScaleTargetDeactivated",
        "Deactivated apps/v1.Deployment default/web from 3 to 0",
    )


def test_an_autoscaler_would_fight_a_pause_or_an_idle_size_and_is_not_there() -> None:
    for annotation in ({keda.PAUSED: "true"}, {keda.PAUSED_REPLICAS: "1"}):
        assert not decided(scaled(annotations=annotation), 1).autoscaled
    idle = {"idle_replica_count": 1, "min_replica_count": 3}
    assert not decided(scaled(last_active=LONG_AGO, **idle), 3, QUIET).autoscaled
    assert not decided(scaled(last_active=LONG_AGO, **idle), 1, QUIET).autoscaled
    assert not decided(scaled(last_active=LONG_AGO, **idle), 1, DOWN).autoscaled
    assert decided(scaled(**idle), 1, ACTIVE).autoscaled
    assert decided(scaled(last_active=NOW, **idle), 3, QUIET).autoscaled
    assert decided(scaled(last_active=LONG_AGO), 3, QUIET).autoscaled


readings = st.one_of(
    st.builds(seen, st.floats(0, 1e6)),
    st.builds(lambda n: seen(failures=n), st.integers(1, 9)),
)


@given(st.lists(readings, min_size=1, max_size=4), st.integers(0, 9), st.integers(0, 3), st.floats(0, 1e4))
def test_whatever_is_read_only_a_trigger_that_answers_wakes_and_only_a_full_silence_puts_to_sleep(
    observed: list[Observed], replicas: int, least: int, ago: float
) -> None:
    found = decided(scaled(last_active=NOW - ago, min_replica_count=least), replicas, *observed)
    readings = [one.reading for one in observed]
    if found.replicas is not None and found.replicas > replicas:
        assert found.replicas == max(1, least) or found.replicas == least
        assert any(r is not None and r.active for r in readings) or all(r is not None for r in readings)
    if found.replicas is not None and found.replicas < replicas:
        assert all(r is not None and not r.active for r in readings)
        assert found.replicas == least == 0
        assert ago > 299
    if any(r is not None and r.active for r in readings):
        assert found.last_active_at == NOW
        assert found.replicas is None or found.replicas > replicas


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_only_what_can_be_a_measurement_is_one(value: float) -> None:
    found = observe(METRIC, Reading(value=value, active=True), "", 2)
    if 0 <= value < float("inf"):
        assert (found.reading, found.failures) == (Reading(value=value, active=True), 0)
    else:
        assert (found.reading, found.failures) == (None, 3)
        assert "no measurement" in found.error


def ask(spec: ScaledObjectSpec, one: Observed, replicas: int = 2, ready: int = 2) -> float | None:
    return serve(spec, one, Scale(replicas, ready)).value


@pytest.mark.parametrize(
    ("behavior", "current", "wanted"),
    [
        ("static", 2, 4), ("", 2, 4), ("static", 9, 4),
        ("currentReplicas", 2, 2), ("currentReplicas", 9, 9),
        ("currentReplicasIfHigher", 2, 4), ("currentReplicasIfHigher", 9, 9),
        ("currentReplicasIfLower", 2, 2), ("currentReplicasIfLower", 9, 4),
    ],
)  # fmt: skip
def test_a_fallback_serves_what_leads_the_autoscaler_to_its_replicas(
    behavior: str, current: int, wanted: int
) -> None:
    spec = scaled(fallback=Fallback(failure_threshold=3, replicas=4, behavior=behavior)).spec
    assert ask(spec, seen(failures=3), current) is None
    assert ask(spec, seen(failures=4), current) == METRIC.target * wanted
    assert ask(spec, seen(7.0), current) == 7.0


def test_a_fallback_of_a_total_divides_by_the_pods_that_are_ready() -> None:
    spec = scaled(fallback=Fallback(failure_threshold=0, replicas=10)).spec
    total = Metric("s0-x", "redis", 5.0, metric_type=keda.VALUE)
    assert (
        ask(spec, seen(metric=total), ready=3) == 16.666
    )  # rounded down: 3 pods × 16.666 / 5 is 10 after rounding up
    assert ask(spec, seen(metric=total), ready=0) is None


def test_without_a_fallback_a_metric_that_fails_has_no_value() -> None:
    served = serve(scaled().spec, seen(failures=99), Scale(3, 3))
    assert served.value is None
    assert served.reason == "s0-redis-jobs cannot be read: it is down"


def formula(text: str, *, fallback: Fallback | None = None, **fields: str) -> ScaledObjectSpec:
    modifiers = ScalingModifiers(formula=text, **{"target": "2", **fields})
    return scaled(advanced=Advanced(scaling_modifiers=modifiers), fallback=fallback).spec


A, B = Metric("s0-a", "redis", 5.0, "a"), Metric("s1-b", "redis", 5.0, "b")
BY_FORMULA = Fallback(failure_threshold=3, replicas=4, behavior="scalingModifiers")
STATIC = Fallback(failure_threshold=3, replicas=4)


@pytest.mark.parametrize(
    ("spec", "a", "b", "value"),
    [
        (formula("a + b"), seen(1.0, metric=A), seen(2.0, metric=B), 3.0),
        (formula("a + b"), seen(1.0, metric=A), seen(failures=99, metric=B), None),
        (formula("a - b"), seen(1.0, metric=A), seen(2.0, metric=B), None),  # negative
        (formula("a / b"), seen(1.0, metric=A), seen(0.0, metric=B), None),
        (formula("a + b", fallback=STATIC), seen(1.0, metric=A), seen(failures=3, metric=B), None),
        (formula("a + b", fallback=STATIC), seen(1.0, metric=A), seen(failures=4, metric=B), 8.0),
        (formula("a ?? b", fallback=BY_FORMULA), seen(failures=3, metric=A), seen(5.0, metric=B), None),
        (formula("a ?? b", fallback=BY_FORMULA), seen(failures=4, metric=A), seen(5.0, metric=B), 5.0),
        (formula("a ?? b ?? 6", fallback=BY_FORMULA), seen(failures=4, metric=A), seen(failures=4, metric=B), 6.0),
        (formula("a ?? b", fallback=BY_FORMULA), seen(failures=4, metric=A), seen(failures=4, metric=B), 8.0),
    ],
)  # fmt: skip
def test_a_formula_serves_one_value_for_all(
    spec: ScaledObjectSpec, a: Observed, b: Observed, value: float | None
) -> None:
    assert compose(spec, (a, b), Scale(2, 2)).value == value


@pytest.mark.parametrize(
    ("served", "replicas", "wanted"),
    [
        (Served(3.1, ""), 0, 1),
        (Served(3.0, ""), 0, None),
        (Served(8.0, "", fallback=True), 0, None),
        (Served(None, "divides by zero"), 4, None),
        (Served(0.0, ""), 4, 0),
    ],
)
def test_a_formula_speaks_for_all_triggers(served: Served, replicas: int, wanted: int | None) -> None:
    modifiers = ScalingModifiers(formula="a", target="2", activation_target="3")
    given = scaled(last_active=LONG_AGO, advanced=Advanced(scaling_modifiers=modifiers))
    found = decided(given, replicas, seen(failures=9) if served.fallback else seen(7.0), composite=served)
    assert found.replicas == wanted
    if served.value is None:
        assert cond(found, "Ready") == ("False", "TriggerError")


def test_the_autoscaler_is_written_as_keda_writes_it() -> None:
    rules = HPAScalingRules(stabilization_window_seconds=60)
    config = HorizontalPodAutoscalerConfig(
        name="mine", behavior=HorizontalPodAutoscalerBehavior(scale_up=rules)
    )
    triggers = (
        TRIGGER,
        CPU,
        ScaleTrigger(type="memory", metadata={"value": "2Gi"}, metric_type="AverageValue"),
        ScaleTrigger(type="cpu", metadata={"value": "50", "containerName": "main"}),
    )
    given = scaled(
        *triggers,
        min_replica_count=2,
        max_replica_count=9,
        advanced=Advanced(horizontal_pod_autoscaler_config=config),
        annotations={keda.PAUSED_SCALE_IN: "true"},
    )
    hpa = plan_hpa(given, (METRIC, Metric("s4-x", "redis", 0.25, metric_type="Value")))
    assert hpa.metadata.name == "mine"
    assert hpa.metadata.labels[keda.NAME_LABEL] == "web"
    spec = hpa.spec
    assert (spec.min_replicas, spec.max_replicas, spec.scale_target_ref.kind) == (2, 9, "Deployment")
    first, second, cpu, memory, container = spec.metrics
    assert first.external is not None and second.external is not None
    assert (first.external.metric.name, first.external.target.average_value) == ("s0-redis-jobs", "5")
    assert (second.external.metric.name, second.external.target.value) == ("s4-x", "250m")
    assert (
        cpu.resource is not None and memory.resource is not None and container.container_resource is not None
    )
    assert cpu.resource.target.average_utilization == 60
    assert memory.resource.target.average_value == "2Gi"
    assert (container.type, container.container_resource.container) == ("ContainerResource", "main")
    assert spec.behavior is not None and spec.behavior.scale_down is not None
    assert spec.behavior.scale_down.select_policy == "Disabled"
    assert spec.behavior.scale_up == rules


def test_with_a_formula_the_autoscaler_has_one_external_metric() -> None:
    modifiers = ScalingModifiers(formula="a + b", target="2.5", metric_type="Value")
    hpa = plan_hpa(scaled(advanced=Advanced(scaling_modifiers=modifiers)), (A, B))
    [metric] = hpa.spec.metrics
    assert metric.external is not None
    assert (metric.external.metric.name, metric.external.target.value) == ("composite-metric", "2500m")


def test_metrics_are_named_as_keda_names_them() -> None:
    assert metric_name(3, "rabbitmq-a%2Fb.c:d(e)") == "s3-rabbitmq-a-2Fb-c-d-e-"


def test_the_status_keeps_the_size_from_before_and_forgets_triggers_that_are_gone() -> None:
    before = scaled(
        status={"original_replica_count": 2, "health": {"s9-old": keda.Health(number_of_failures=1)}}
    )
    found = decided(before, 5, ACTIVE)
    status = plan_status(before, found, (ACTIVE,), (METRIC,), 5)
    assert status.original_replica_count == 2
    assert list(status.health) == ["s0-redis-jobs"]
    assert status.last_active_time == rfc3339(NOW)
    assert [c.type for c in status.conditions] == ["Ready", "Active", "Fallback", "Paused"]
    assert (status.hpa_name, status.triggers_types) == ("keda-hpa-web", "redis")
