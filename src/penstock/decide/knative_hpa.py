"""Which HorizontalPodAutoscaler does a revision of Knative's class hpa ask for?

Source: Knative's autoscaler class `hpa.autoscaling.knative.dev`. There is no scale to zero, and no bound above unless one is set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from penstock.kit.durations import parse_go_duration_s
from penstock.kit.errors import InvalidInput
from penstock.resources.autoscaler_settings import DOMAIN, annotations_of
from penstock.resources.autoscaling import (
    CrossVersionObjectReference,
    HorizontalPodAutoscalerBehavior,
    HorizontalPodAutoscalerSpec,
    HPAScalingRules,
    MetricIdentifier,
    MetricSpec,
    MetricTarget,
    PodsMetricSource,
    ResourceMetricSource,
)
from penstock.resources.serving import Component

UNBOUNDED = 2**31 - 1


def knative_hpa_spec(
    target: CrossVersionObjectReference, component: Component, given: Mapping[str, str]
) -> HorizontalPodAutoscalerSpec:
    """`given` are the annotations of service and component; what cannot be read counts as not there."""
    annotations = annotations_of(given, component)
    least = max(1, _whole(annotations, "min-scale", "minScale"))
    return HorizontalPodAutoscalerSpec(
        scale_target_ref=target,
        min_replicas=least,
        max_replicas=max(_whole(annotations, "max-scale", "maxScale") or UNBOUNDED, least),
        metrics=_metrics(annotations),
        behavior=_behavior(annotations.get(DOMAIN + "window", "")),
    )


def _metrics(annotations: Mapping[str, str]) -> tuple[MetricSpec, ...]:
    """Without a target Kubernetes' default holds (80 % of CPU). What is neither cpu nor memory is a metric of the pods."""
    name = annotations.get(DOMAIN + "metric", "cpu")
    target = _number(annotations.get(DOMAIN + "target", ""))
    if target is None:
        return ()
    if name == "cpu":
        utilization = MetricTarget(type="Utilization", average_utilization=math.ceil(target))
        return (MetricSpec(type="Resource", resource=ResourceMetricSource(name=name, target=utilization)),)
    if name == "memory":
        average = MetricTarget(type="AverageValue", average_value=f"{math.ceil(target)}Mi")
        return (MetricSpec(type="Resource", resource=ResourceMetricSource(name=name, target=average)),)
    average = MetricTarget(type="AverageValue", average_value=math.ceil(target))
    source = PodsMetricSource(metric=MetricIdentifier(name=name), target=average)
    return (MetricSpec(type="Pods", pods=source),)


def _behavior(window: str) -> HorizontalPodAutoscalerBehavior | None:
    """The window steadies both directions."""
    try:
        window_s = round(parse_go_duration_s(window))
    except InvalidInput:
        return None
    rules = HPAScalingRules(stabilization_window_seconds=window_s)
    return HorizontalPodAutoscalerBehavior(scale_up=rules, scale_down=rules)


def _whole(annotations: Mapping[str, str], *keys: str) -> int:
    texts = (annotations.get(DOMAIN + key, "") for key in keys)
    return next((int(text) for text in texts if text.isascii() and text.isdecimal()), 0)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
