"""Does a horizontal pod autoscaler keep Kubernetes' rules?"""

from __future__ import annotations

from penstock.kit.quantity import parse_quantity
from penstock.resources.autoscaling import (
    ContainerResourceMetricSource,
    CrossVersionObjectReference,
    ExternalMetricSource,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior,
    HPAScalingRules,
    MetricIdentifier,
    MetricSpec,
    MetricTarget,
    ObjectMetricSource,
    PodsMetricSource,
    ResourceMetricSource,
)
from penstock.resources.meta import Quantity
from penstock.resources.validation import Causes, forbidden, one_of, required, selector, unsupported, wrong

MAX_PERIOD_S = 1800
MAX_WINDOW_S = 3600
SOURCES = {
    "ContainerResource": ("container_resource", "containerResource"),
    "External": ("external", "external"),
    "Object": ("object", "object"),
    "Pods": ("pods", "pods"),
    "Resource": ("resource", "resource"),
}
"""By type: the field of the model, and its name in a manifest."""
FROM_ZERO = ("Object", "External")
"""Sources that can be measured while there is no pod."""


def validate_autoscaler(new: HorizontalPodAutoscaler) -> Causes:
    """Causes in a horizontal pod autoscaler."""
    spec = new.spec
    if spec.min_replicas is not None and spec.min_replicas < 0:
        yield wrong("spec.minReplicas", spec.min_replicas, "must be greater than or equal to 0")
    if spec.max_replicas < 1:
        yield wrong("spec.maxReplicas", spec.max_replicas, "must be greater than 0")
    if spec.max_replicas < (1 if spec.min_replicas is None else spec.min_replicas):
        yield wrong("spec.maxReplicas", spec.max_replicas, "must be greater than or equal to `minReplicas`")
    yield from _reference("spec.scaleTargetRef", spec.scale_target_ref)
    for i, metric in enumerate(spec.metrics):
        yield from _metric(f"spec.metrics[{i}]", metric)
    if spec.min_replicas == 0 and not any(metric.type in FROM_ZERO for metric in spec.metrics):
        detail = "must specify at least one Object or External metric to support scaling to zero replicas"
        yield forbidden("spec.metrics", detail)
    if spec.behavior is not None:
        yield from validate_behavior("spec.behavior", spec.behavior)


def validate_behavior(where: str, behavior: HorizontalPodAutoscalerBehavior) -> Causes:
    """Causes in the limits of both directions."""
    if behavior.scale_up is not None:
        yield from _rules(f"{where}.scaleUp", behavior.scale_up)
    if behavior.scale_down is not None:
        yield from _rules(f"{where}.scaleDown", behavior.scale_down)


def _rules(where: str, rules: HPAScalingRules) -> Causes:
    window_s = rules.stabilization_window_seconds
    if window_s is not None and window_s < 0:
        yield wrong(f"{where}.stabilizationWindowSeconds", window_s, "must be greater than or equal to zero")
    if window_s is not None and window_s > MAX_WINDOW_S:
        detail = f"must be less than or equal to {MAX_WINDOW_S}"
        yield wrong(f"{where}.stabilizationWindowSeconds", window_s, detail)
    yield from one_of(f"{where}.selectPolicy", rules.select_policy, ("Disabled", "Max", "Min"))
    if rules.tolerance is not None and parse_quantity(rules.tolerance) < 0:
        yield wrong(f"{where}.tolerance", rules.tolerance, "must be greater than or equal to zero")
    for i, policy in enumerate(rules.policies):
        at = f"{where}.policies[{i}]"
        if policy.type not in ("Percent", "Pods"):
            yield unsupported(f"{at}.type", policy.type, ("Percent", "Pods"))
        if policy.value <= 0:
            yield wrong(f"{at}.value", policy.value, "must be greater than zero")
        if policy.period_seconds <= 0:
            yield wrong(f"{at}.periodSeconds", policy.period_seconds, "must be greater than zero")
        if policy.period_seconds > MAX_PERIOD_S:
            detail = f"must be less than or equal to {MAX_PERIOD_S}"
            yield wrong(f"{at}.periodSeconds", policy.period_seconds, detail)


def _metric(where: str, metric: MetricSpec) -> Causes:
    if not metric.type:
        yield required(f"{where}.type", "must specify a metric source type")
        return
    if metric.type not in SOURCES:
        yield unsupported(f"{where}.type", metric.type, tuple(SOURCES))
        return
    field, name = SOURCES[metric.type]
    for other, called in SOURCES.values():
        if other != field and getattr(metric, other) is not None:
            yield forbidden(f"{where}.{called}", "must populate the given metric source only")
    source = getattr(metric, field)
    if source is None:
        yield required(f"{where}.{name}", "must populate information for the given metric source")
        return
    yield from _source(f"{where}.{name}", source)


def _source(
    where: str,
    source: ResourceMetricSource
    | ContainerResourceMetricSource
    | PodsMetricSource
    | ObjectMetricSource
    | ExternalMetricSource,
) -> Causes:
    match source:
        case ResourceMetricSource():
            yield from _resource(where, source.name, source.target)
        case ContainerResourceMetricSource():
            if not source.container:
                yield required(f"{where}.container", "must specify a container")
            yield from _resource(where, source.name, source.target)
        case PodsMetricSource():
            yield from _identifier(f"{where}.metric", source.metric)
            yield from _target(f"{where}.target", source.target)
            if source.target.average_value is None or _sign(source.target.average_value) != 1:
                yield required(f"{where}.target.averageValue", "must specify a positive target averageValue")
        case ObjectMetricSource():
            yield from _reference(f"{where}.describedObject", source.described_object)
            yield from _identifier(f"{where}.metric", source.metric)
            yield from _whole(where, source.target)
        case ExternalMetricSource():
            yield from _identifier(f"{where}.metric", source.metric)
            yield from _whole(where, source.target)


def _resource(where: str, name: str, target: MetricTarget) -> Causes:
    if not name:
        yield required(f"{where}.name", "must specify a resource name")
    yield from _target(f"{where}.target", target)
    if target.average_utilization is None and target.average_value is None:
        detail = "must set either a target raw value or a target utilization"
        yield required(f"{where}.target.averageUtilization", detail)
    if target.average_utilization is not None and target.average_value is not None:
        detail = "may not set both a target raw value and a target utilization"
        yield forbidden(f"{where}.target.averageValue", detail)


def _whole(where: str, target: MetricTarget) -> Causes:
    """The target of a value that belongs to no single pod."""
    yield from _target(f"{where}.target", target)
    if target.value is None and target.average_value is None:
        detail = "must set either a target value for metric or a per-pod target"
        yield required(f"{where}.target.averageValue", detail)
    if target.value is not None and target.average_value is not None:
        detail = "may not set both a target value for metric and a per-pod target"
        yield forbidden(f"{where}.target.value", detail)


def _target(where: str, target: MetricTarget) -> Causes:
    if not target.type:
        yield required(f"{where}.type", "must specify a metric target type")
    if target.type not in ("Utilization", "Value", "AverageValue"):
        yield wrong(f"{where}.type", target.type, "must be either Utilization, Value, or AverageValue")
    if target.value is not None and _sign(target.value) != 1:
        yield wrong(f"{where}.value", target.value, "must be positive")
    if target.average_value is not None and _sign(target.average_value) != 1:
        yield wrong(f"{where}.averageValue", target.average_value, "must be positive")
    if target.average_utilization is not None and target.average_utilization < 1:
        yield wrong(f"{where}.averageUtilization", target.average_utilization, "must be greater than 0")


def _identifier(where: str, metric: MetricIdentifier) -> Causes:
    if not metric.name:
        yield required(f"{where}.name", "must specify a metric name")
    else:
        yield from _path_segment(f"{where}.name", metric.name)
    if metric.selector is not None:
        yield from selector(f"{where}.selector", metric.selector)


def _reference(where: str, reference: CrossVersionObjectReference) -> Causes:
    for name in ("kind", "name"):
        value = getattr(reference, name)
        if value:
            yield from _path_segment(f"{where}.{name}", value)
        else:
            yield required(f"{where}.{name}")


def _path_segment(field: str, value: str) -> Causes:
    """Names end up in URLs."""
    if value in (".", ".."):
        yield wrong(field, value, f"may not be '{value}'")
    for part in ("/", "%"):
        if part in value:
            yield wrong(field, value, f"may not contain '{part}'")


def _sign(amount: Quantity) -> int:
    value = parse_quantity(amount)
    return (value > 0) - (value < 0)
