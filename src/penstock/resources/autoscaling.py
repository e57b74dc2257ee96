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
