"""Which autoscaler does this ScaledObject ask for, between one replica and many?

As KEDA writes it: at least one replica, an External metric per trigger (one for all with a formula), cpu and memory as Resource
metrics, and no scaling in a direction that an annotation pauses.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import structs

from penstock.decide.scaled_object_metrics import COMPOSITE, Metric
from penstock.kit.quantity import format_quantity
from penstock.resources import keda
from penstock.resources.autoscaling import (
    ContainerResourceMetricSource,
    CrossVersionObjectReference,
    ExternalMetricSource,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior,
    HorizontalPodAutoscalerSpec,
    HPAScalingRules,
    MetricIdentifier,
    MetricSpec,
    MetricTarget,
    ResourceMetricSource,
)
from penstock.resources.keda import ScaledObject, ScaleTrigger
from penstock.resources.meta import LabelSelector, ObjectMeta, controlled_by
from penstock.resources.validate_scaled_object import hpa_name

DISABLED = HPAScalingRules(select_policy="Disabled")


def metric_name(index: int, suffix: str) -> str:
    """KEDA's name for the metric of the trigger at this place: `s0-rabbitmq-orders`."""
    return f"s{index}-{normalised(suffix)}"


def normalised(text: str) -> str:
    """A metric's name may hold none of these."""
    for character in "/.:%()":
        text = text.replace(character, "-")
    return text


def plan_hpa(scaled: ScaledObject, metrics: tuple[Metric, ...]) -> HorizontalPodAutoscaler:
    """The autoscaler; `metrics` are those of the triggers that it does not read itself."""
    spec, meta = scaled.spec, scaled.metadata
    name = hpa_name(meta.name, spec)
    target = spec.scale_target_ref
    labels = {
        "app.kubernetes.io/managed-by": "keda-operator",
        "app.kubernetes.io/part-of": meta.name[:63],
        "app.kubernetes.io/name": name,
        keda.NAME_LABEL: meta.name[:63],
    }
    owner = controlled_by(scaled)
    return HorizontalPodAutoscaler(
        metadata=ObjectMeta(
            name=name, namespace=meta.namespace, labels={**meta.labels, **labels}, owner_references=(owner,)
        ),
        spec=HorizontalPodAutoscalerSpec(
            scale_target_ref=CrossVersionObjectReference(
                api_version=target.api_version or "apps/v1",
                kind=target.kind or "Deployment",
                name=target.name,
            ),
            min_replicas=max(1, spec.min_replicas),
            max_replicas=spec.max_replicas,
            metrics=(*_external(scaled, metrics), *map(_resource, _resource_triggers(scaled))),
            behavior=_behavior(scaled),
        ),
    )


def resource_metric_names(scaled: ScaledObject) -> tuple[str, ...]:
    """`status.resourceMetricNames`."""
    return tuple(dict.fromkeys(trigger.type for trigger in _resource_triggers(scaled)))


def _resource_triggers(scaled: ScaledObject) -> tuple[ScaleTrigger, ...]:
    return tuple(trigger for trigger in scaled.spec.triggers if trigger.type in keda.RESOURCE_TRIGGERS)


def _external(scaled: ScaledObject, metrics: tuple[Metric, ...]) -> tuple[MetricSpec, ...]:
    modifiers = scaled.spec.advanced.scaling_modifiers if scaled.spec.advanced else None
    if modifiers is not None and modifiers.formula:
        kind = modifiers.metric_type or keda.AVERAGE_VALUE
        metrics = (Metric(COMPOSITE, "", float(modifiers.target), metric_type=kind),)
    selector = LabelSelector(match_labels={keda.NAME_LABEL: scaled.metadata.name})
    return tuple(
        MetricSpec(
            type="External",
            external=ExternalMetricSource(
                metric=MetricIdentifier(name=metric.metric, selector=selector), target=_target(metric)
            ),
        )
        for metric in metrics
    )


def _target(metric: Metric) -> MetricTarget:
    amount = format_quantity(Decimal(max(1, round(metric.target * 1000))) / 1000)
    if metric.metric_type == keda.VALUE:
        return MetricTarget(type=keda.VALUE, value=amount)
    return MetricTarget(type=keda.AVERAGE_VALUE, average_value=amount)


def _resource(trigger: ScaleTrigger) -> MetricSpec:
    value, container = trigger.metadata["value"], trigger.metadata.get("containerName", "")
    if trigger.metric_type == keda.AVERAGE_VALUE:
        target = MetricTarget(type=keda.AVERAGE_VALUE, average_value=value)
    else:
        target = MetricTarget(type=keda.UTILIZATION, average_utilization=int(Decimal(value)))
    if container:
        source = ContainerResourceMetricSource(name=trigger.type, container=container, target=target)
        return MetricSpec(type="ContainerResource", container_resource=source)
    return MetricSpec(type="Resource", resource=ResourceMetricSource(name=trigger.type, target=target))


def _behavior(scaled: ScaledObject) -> HorizontalPodAutoscalerBehavior | None:
    config = scaled.spec.advanced.horizontal_pod_autoscaler_config if scaled.spec.advanced else None
    behavior = config.behavior if config else None
    pauses = {
        field: structs.replace(_rules(behavior, field), select_policy="Disabled")
        for field, key in (("scale_down", keda.PAUSED_SCALE_IN), ("scale_up", keda.PAUSED_SCALE_OUT))
        if is_set(scaled, key)
    }
    if not pauses:
        return behavior
    return structs.replace(behavior or HorizontalPodAutoscalerBehavior(), **pauses)


def _rules(behavior: HorizontalPodAutoscalerBehavior | None, field: str) -> HPAScalingRules:
    rules: HPAScalingRules | None = getattr(behavior, field) if behavior else None
    return rules or DISABLED


def is_set(scaled: ScaledObject, annotation: str) -> bool:
    """Whether an annotation says true."""
    return scaled.metadata.annotations.get(annotation, "").lower() == "true"
