"""By which triggers does KEDA scale a component?

One trigger for each of `autoScaling.metrics`: Resource as KEDA's cpu and memory, External as prometheus or graphite, PodMetric as
the external scaler of the OpenTelemetry add-on. Names of the metadata are KEDA's. Source: KServe's autoscaler class `keda`.
"""

from __future__ import annotations

from penstock.kit.quantity import parse_quantity
from penstock.resources.autoscaling import (
    HorizontalPodAutoscalerBehavior,
    HPAScalingRules,
    MetricTarget,
    ResourceMetricSource,
)
from penstock.resources.keda import (
    AVERAGE_VALUE,
    RESOURCE_TRIGGERS,
    UTILIZATION,
    VALUE,
    Advanced,
    AuthenticationReference,
    HorizontalPodAutoscalerConfig,
    ScaledObjectSpec,
    ScaleTarget,
    ScaleTrigger,
)
from penstock.resources.meta import Quantity
from penstock.resources.serving import (
    Component,
    ComponentExternalMetric,
    ComponentPodMetric,
    ResourceMetric,
    ScaleMetric,
)

SCALE_UP_WINDOW_S, SCALE_DOWN_WINDOW_S = 0, 300
"""Stabilisation where the component says nothing: KServe's ConfigMap `inferenceservice-config`, as shipped."""
OTEL_SCALER = "keda-otel-scaler.keda.svc:4318"
DEFAULT_OPERATION = "last_one"


def scaled_object_spec(
    deployment: str, component: Component, otherwise: ResourceMetricSource
) -> ScaledObjectSpec:
    """`otherwise` is the metric of a component that names none. Times are left to KEDA."""
    scaling = component.auto_scaling
    metrics = scaling.metrics if scaling else ()
    triggers = tuple(map(_trigger, metrics)) or (_resource_trigger(otherwise.name, otherwise.target),)
    least = 1 if component.min_replicas is None else component.min_replicas
    if all(trigger.type in RESOURCE_TRIGGERS for trigger in triggers):
        least = max(1, least)  # KEDA refuses zero here: without pods nobody uses CPU or memory
    behavior = _steadied(scaling.behavior if scaling else None)
    return ScaledObjectSpec(
        scale_target_ref=ScaleTarget(api_version="apps/v1", kind="Deployment", name=deployment),
        min_replica_count=least,
        max_replica_count=max(component.max_replicas or 0, least, 1),
        triggers=triggers,
        advanced=Advanced(horizontal_pod_autoscaler_config=HorizontalPodAutoscalerConfig(behavior=behavior)),
    )


def _trigger(metric: ScaleMetric) -> ScaleTrigger:
    if metric.resource is not None:
        return _resource_trigger(metric.resource.name, metric.resource.target)
    if metric.external is not None:
        return _external_trigger(metric.external)
    assert metric.podmetric is not None, "admission lets no other metric through"
    return _pod_trigger(metric.podmetric)


def _resource_trigger(name: str, target: ResourceMetric | MetricTarget) -> ScaleTrigger:
    """Percent of the request, or each pod's amount."""
    if target.type == UTILIZATION:
        return ScaleTrigger(
            type=name, metric_type=UTILIZATION, metadata={"value": str(target.average_utilization)}
        )
    amount = target.value if target.average_value is None else target.average_value
    return ScaleTrigger(type=name, metric_type=AVERAGE_VALUE, metadata={"value": str(amount)})


def _external_trigger(external: ComponentExternalMetric) -> ScaleTrigger:
    metric, reference = external.metric, external.authentication_ref
    metadata = {
        "serverAddress": metric.server_address,
        "query": metric.query,
        "threshold": _threshold(external.target),
    }
    if metric.namespace:
        metadata["namespace"] = metric.namespace
    if reference is not None and reference.auth_modes:
        metadata["authModes"] = reference.auth_modes
    return ScaleTrigger(
        type=metric.backend or "prometheus",
        metric_type=_metric_type(external.target),
        metadata=metadata,
        authentication_ref=AuthenticationReference(name=reference.authentication_ref.name)
        if reference
        else None,
    )


def _pod_trigger(pod: ComponentPodMetric) -> ScaleTrigger:
    metric = pod.metric
    metadata = {
        "scalerAddress": metric.server_address or OTEL_SCALER,
        "metricQuery": metric.query,
        "targetValue": _threshold(pod.target),
        "operationOverTime": metric.operation_over_time or DEFAULT_OPERATION,
    }
    return ScaleTrigger(type="external", metric_type=_metric_type(pod.target), metadata=metadata)


def _metric_type(target: ResourceMetric) -> str:
    return target.type if target.type in (AVERAGE_VALUE, VALUE) else AVERAGE_VALUE


def _threshold(target: ResourceMetric) -> str:
    """KEDA reads a plain number, not a quantity: 500m is 0.5."""
    average: Quantity | None = target.average_value if target.type == AVERAGE_VALUE else None
    amount = target.value if average is None else average
    return f"{parse_quantity(0 if amount is None else amount).normalize():f}"


def _steadied(behavior: HorizontalPodAutoscalerBehavior | None) -> HorizontalPodAutoscalerBehavior:
    """With the cluster's windows where the component's behaviour has none."""
    given = behavior or HorizontalPodAutoscalerBehavior()
    return HorizontalPodAutoscalerBehavior(
        scale_up=_with_window(given.scale_up, SCALE_UP_WINDOW_S),
        scale_down=_with_window(given.scale_down, SCALE_DOWN_WINDOW_S),
    )


def _with_window(rules: HPAScalingRules | None, window_s: int) -> HPAScalingRules:
    rules = rules or HPAScalingRules()
    if rules.stabilization_window_seconds is not None:
        return rules
    return HPAScalingRules(
        stabilization_window_seconds=window_s,
        select_policy=rules.select_policy,
        policies=rules.policies,
        tolerance=rules.tolerance,
    )
