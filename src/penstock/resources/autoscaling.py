"""The horizontal pod autoscaler (Kubernetes autoscaling/v2), whose behaviour KServe's `autoScaling` borrows."""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import Condition, LabelSelector, Model, Quantity, Resource


class HPAScalingPolicy(Model, frozen=True):
    """At most `value` (Pods, or Percent of the current number) may change within `period_seconds`."""

    type: str
    value: int
    period_seconds: int


class HPAScalingRules(Model, frozen=True):
    """Limits of one direction. `select_policy` is Max, Min or Disabled."""

    stabilization_window_seconds: int | None = None
    select_policy: str | None = None
    policies: tuple[HPAScalingPolicy, ...] = ()
    tolerance: Quantity | None = None


class HorizontalPodAutoscalerBehavior(Model, frozen=True):
    """How fast to grow and to shrink."""

    scale_up: HPAScalingRules | None = None
    scale_down: HPAScalingRules | None = None


class CrossVersionObjectReference(Model, frozen=True):
    """The object that is scaled, or measured; in the autoscaler's own namespace."""

    kind: str
    name: str
    api_version: str = ""


class MetricIdentifier(Model, frozen=True):
    """A metric's name, narrowed by its labels."""

    name: str
    selector: LabelSelector | None = None


class MetricTarget(Model, frozen=True):
    """`type` is Utilization, Value or AverageValue, and the field of that name is set."""

    type: str
    value: Quantity | None = None
    average_value: Quantity | None = None
    average_utilization: int | None = None


class ResourceMetricSource(Model, frozen=True):
    """CPU or memory of all pods."""

    name: str
    target: MetricTarget


class ContainerResourceMetricSource(Model, frozen=True):
    """CPU or memory of one container of all pods."""

    name: str
    container: str
    target: MetricTarget


class PodsMetricSource(Model, frozen=True):
    """A metric of each pod, averaged."""

    metric: MetricIdentifier
    target: MetricTarget


class ObjectMetricSource(Model, frozen=True):
    """A metric of one object."""

    described_object: CrossVersionObjectReference
    metric: MetricIdentifier
    target: MetricTarget


class ExternalMetricSource(Model, frozen=True):
    """A metric of something outside."""

    metric: MetricIdentifier
    target: MetricTarget


class MetricSpec(Model, frozen=True):
    """`type` is Resource, ContainerResource, Pods, Object or External, and the field of that name is set."""

    type: str
    resource: ResourceMetricSource | None = None
    container_resource: ContainerResourceMetricSource | None = None
    pods: PodsMetricSource | None = None
    object: ObjectMetricSource | None = None
    external: ExternalMetricSource | None = None


class HorizontalPodAutoscalerSpec(Model, frozen=True):
    """Between which bounds, and by which metrics, to scale what."""

    scale_target_ref: CrossVersionObjectReference
    max_replicas: int
    min_replicas: int | None = None
    metrics: tuple[MetricSpec, ...] = ()
    behavior: HorizontalPodAutoscalerBehavior | None = None


class MetricValueStatus(Model, frozen=True):
    """A metric as it was last read."""

    value: Quantity | None = None
    average_value: Quantity | None = None
    average_utilization: int | None = None


class ResourceMetricStatus(Model, frozen=True):
    """CPU or memory as last read."""

    name: str
    current: MetricValueStatus


class ContainerResourceMetricStatus(Model, frozen=True):
    """CPU or memory of one container as last read."""

    name: str
    container: str
    current: MetricValueStatus


class PodsMetricStatus(Model, frozen=True):
    """A metric of the pods as last read."""

    metric: MetricIdentifier
    current: MetricValueStatus


class ObjectMetricStatus(Model, frozen=True):
    """A metric of one object as last read."""

    metric: MetricIdentifier
    current: MetricValueStatus
    described_object: CrossVersionObjectReference


class ExternalMetricStatus(Model, frozen=True):
    """An outside metric as last read."""

    metric: MetricIdentifier
    current: MetricValueStatus


class MetricStatus(Model, frozen=True):
    """One of `spec.metrics` as last read."""

    type: str
    resource: ResourceMetricStatus | None = None
    container_resource: ContainerResourceMetricStatus | None = None
    pods: PodsMetricStatus | None = None
    object: ObjectMetricStatus | None = None
    external: ExternalMetricStatus | None = None


class HorizontalPodAutoscalerStatus(Model, frozen=True):
    """The last decision. Conditions are AbleToScale, ScalingActive and ScalingLimited."""

    observed_generation: int | None = None
    last_scale_time: str | None = None
    current_replicas: int = 0
    desired_replicas: int = 0
    current_metrics: tuple[MetricStatus, ...] = ()
    conditions: tuple[Condition, ...] = ()


class HorizontalPodAutoscaler(Resource, frozen=True, kw_only=True):
    """Keeps a workload's number of pods in step with its metrics."""

    api_version: str = field(default_factory=lambda: "autoscaling/v2")
    kind: str = field(default_factory=lambda: "HorizontalPodAutoscaler")
    spec: HorizontalPodAutoscalerSpec
    status: HorizontalPodAutoscalerStatus = field(default_factory=HorizontalPodAutoscalerStatus)


FIELDS: tuple[tuple[str, str, str, str], ...] = (
    (
        "spec.scaleTargetRef",
        "required",
        "Deployment, ReplicaSet (apps/v1)",
        "its scale is read and written; anything else is FailedGetScale",
    ),
    (
        "spec.minReplicas",
        "1",
        "0 … maxReplicas",
        "0 needs an Object or External metric; a target at 0 is left alone unless this is 0",
    ),
    ("spec.maxReplicas", "required", "≥ 1", "the greatest number, whatever metrics ask for"),
    (
        "spec.metrics[]",
        "cpu, 80 % of requests",
        "Resource, ContainerResource, Pods, Object, External",
        "the greatest proposal counts; one that fails forbids to shrink, all that fail forbid any change",
    ),
    (
        "….resource.name, ….containerResource.name",
        "required",
        "cpu, memory, nvidia.com/gpu",
        "measured from the processes every 15 s (the first time after 5 s); GPUs as NVML's utilisation of the devices in use",
    ),
    (
        "….target.averageUtilization",
        "none",
        "≥ 1",
        "whole percent of the requests, cut and not rounded; a limit without a request counts as one",
    ),
    (
        "….pods.metric",
        "required",
        "a Prometheus series",
        "scraped from the pod (prometheus.kserve.io/port, …/path), summed over the series that the selector takes",
    ),
    (
        "….object.describedObject",
        "required",
        "InferenceService, Pod",
        "a service's concurrency, rps or waiting as gateways report them; a pod's own series",
    ),
    (
        "….external.metric",
        "required",
        "a trigger's name",
        "read from the triggers of ScaledObjects; series are added up",
    ),
    ("….target.value, ….target.averageValue", "one of them", "> 0", "of all pods together, or per pod"),
    (
        "spec.behavior.….stabilizationWindowSeconds",
        "0 up, 300 down",
        "0 … 3600",
        "only as far as every recommendation of the window agrees",
    ),
    (
        "spec.behavior.….policies[]",
        "up: 4 Pods or 100 Percent, down: 100 Percent, in 15 s",
        "value ≥ 1, periodSeconds 1 … 1800",
        "the most that may change within the period",
    ),
    (
        "spec.behavior.….selectPolicy",
        "Max",
        "Max, Min, Disabled",
        "which policy holds where there are several; Disabled: not at all in this direction",
    ),
    ("spec.behavior.….tolerance", "0.1", "≥ 0", "how far usage may be from its target, as a share"),
    (
        "spec.behavior",
        "none",
        "",
        "without it: at most double or 4 at a time up, down to the highest recommendation of 5 min",
    ),
)
"""For the reference: field, default, range, and what Penstock does with it."""
