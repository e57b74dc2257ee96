"""What does one of an autoscaler's metrics ask for, and how is that told?

Chooses the calculation that the metric's source and target name, and gives the answer Kubernetes' words: the name in "reason:
… above target", the entry of `status.currentMetrics`, the reason and message of a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TypeAlias

from penstock.decide.hpa_replicas import (
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
)
from penstock.kit.quantity import format_quantity, parse_quantity
from penstock.resources.autoscaling import (
    ContainerResourceMetricStatus,
    ExternalMetricStatus,
    MetricSpec,
    MetricStatus,
    MetricTarget,
    MetricValueStatus,
    ObjectMetricStatus,
    PodsMetricStatus,
    ResourceMetricStatus,
)
from penstock.resources.meta import LabelSelector, Quantity


@dataclass(frozen=True, slots=True)
class PodReadings:
    """A metric of pods (Resource, ContainerResource, Pods): samples by pod name. Pods without one are missing."""

    samples: Mapping[str, PodSample]


@dataclass(frozen=True, slots=True)
class ValueReadings:
    """A metric of an object, or of something outside: one value in thousandths per series; External adds them up."""

    values_milli: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unread:
    """The metric could not be read, or not be trusted, and why."""

    message: str


Reading: TypeAlias = PodReadings | ValueReadings | Unread


@dataclass(frozen=True, slots=True)
class Target:
    """What is scaled, as far as metrics need to know: `wanted` is its scale's spec, `existing` its status."""

    namespace: str
    wanted: int
    existing: int
    pods: tuple[PodState, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """The number that a metric asks for, the metric's name in messages, and what was measured."""

    replicas: int
    metric: str
    status: MetricStatus


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a metric asks for nothing: `reason` and `message` for condition and Event, `chain` for the sum of all metrics."""

    reason: str
    message: str
    chain: str


def propose(
    metric: MetricSpec,
    reading: Reading,
    target: Target,
    tolerances: Tolerances,
    settings: HpaSettings,
    now: float,
) -> Proposal | Failure:
    """What the metric asks for. The reading must be of the kind that the metric's type has."""
    source = _Source.of(metric, target.namespace)
    if source is None:
        message = f'unknown metric source type "{metric.type}"'
        return Failure("InvalidMetricSourceType", message, message)
    problem = source.failed_to_read(reading)
    counted = problem or _count(source, reading, target, tolerances, settings, now)
    if isinstance(counted, Problem):
        return source.failure(counted)
    return Proposal(counted.replicas, source.title, source.status(_shown(source, counted)))


def milli(amount: Quantity) -> int:
    """A quantity in thousandths, rounded up as Kubernetes does."""
    return int((parse_quantity(amount) * 1000).to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class _Source:
    """One metric, its type looked through."""

    spec: MetricSpec
    target: MetricTarget
    name: str
    namespace: str
    container: str = ""

    @classmethod
    def of(cls, spec: MetricSpec, namespace: str) -> _Source | None:
        match spec.type:
            case "Resource" if spec.resource is not None:
                return cls(spec, spec.resource.target, spec.resource.name, namespace)
            case "ContainerResource" if spec.container_resource is not None:
                own = spec.container_resource
                return cls(spec, own.target, own.name, namespace, own.container)
            case "Pods" if spec.pods is not None:
                return cls(spec, spec.pods.target, spec.pods.metric.name, namespace)
            case "Object" if spec.object is not None:
                return cls(spec, spec.object.target, spec.object.metric.name, namespace)
            case "External" if spec.external is not None:
                return cls(spec, spec.external.target, spec.external.metric.name, namespace)
        return None

    @property
    def by_average(self) -> bool:
        """Whether the target is an amount per pod. An object's target goes by its type, as in Kubernetes."""
        if self.spec.type == "Object":
            return self.target.type == "AverageValue"
        return self.target.average_value is not None

    @property
    def title(self) -> str:
        """How "… above target" names the metric."""
        match self.spec.type:
            case "Pods":
                return f"pods metric {self.name}"
            case "Object" if self.spec.object is not None and not self.by_average:
                return f"{self.spec.object.described_object.kind} metric {self.name}"
            case "Object" | "External":
                return f"external metric {self.name}({_selector(self.selector)})"
        if self.by_average:
            return f"{self.name} resource"
        inside = "container " if self.spec.type == "ContainerResource" else ""
        return f"{self.name} {inside}resource utilization (percentage of request)"

    @property
    def selector(self) -> LabelSelector | None:
        """Which of the metric's series are meant."""
        own = self.spec.pods or self.spec.object or self.spec.external
        return own.metric.selector if own else None

    def failed_to_read(self, reading: Reading) -> Problem | None:
        """The problem of a reading that cannot be counted, in the words of this type."""
        found = _fault(reading, of_pods=self.spec.type not in ("Object", "External"))
        if found is None:
            return None
        match self.spec.type:
            case "Object" if self.spec.object is not None:
                about = self.spec.object.described_object
                where = f"{about.kind} {self.namespace}/{about.name}"
                return Problem(f"unable to get metric {self.name}: {found} on {where}")
            case "External":
                which = f"{self.namespace}/{self.name}/{_selector(self.selector)}"
                return Problem(f"unable to get external metric {which}: {found}")
            case "Pods":
                return Problem(f"unable to get metric {self.name}: {found}")
        return Problem(f"unable to get metrics for resource {self.name}: {found}")

    def failure(self, problem: Problem) -> Failure:
        """The failure as condition, Event and sum tell it."""
        message, chain = problem.message, problem.message
        match self.spec.type:
            case "Resource" | "ContainerResource":
                message = (
                    f"failed to get {self.name} {'usage' if self.by_average else 'utilization'}: {message}"
                )
                what = (
                    f"{self.name} resource" if self.spec.type == "Resource" else f"{self.container} container"
                )
                chain = f"failed to get {what} metric value: {message}"
            case "Pods":
                chain = f"failed to get pods metric value: {message}"
            case "Object":
                inner = f"failed to get {self.name} object metric: {message}" if self.by_average else message
                chain = f"failed to get object metric value: {inner}"
            case "External":
                kind = f"{self.name} external metric" if self.by_average else f"external metric {self.name}"
                chain = f"failed to get {self.name} external metric value: failed to get {kind}: {message}"
        return Failure(f"FailedGet{self.spec.type}Metric", message, chain)

    def status(self, current: MetricValueStatus) -> MetricStatus:
        """The entry of `status.currentMetrics`."""
        spec = self.spec
        if spec.pods is not None:
            return MetricStatus(
                type=spec.type, pods=PodsMetricStatus(metric=spec.pods.metric, current=current)
            )
        if spec.object is not None:
            described = spec.object.described_object
            own = ObjectMetricStatus(metric=spec.object.metric, current=current, described_object=described)
            return MetricStatus(type=spec.type, object=own)
        if spec.external is not None:
            outside = ExternalMetricStatus(metric=spec.external.metric, current=current)
            return MetricStatus(type=spec.type, external=outside)
        if spec.container_resource is not None:
            inside = ContainerResourceMetricStatus(name=self.name, container=self.container, current=current)
            return MetricStatus(type=spec.type, container_resource=inside)
        return MetricStatus(type=spec.type, resource=ResourceMetricStatus(name=self.name, current=current))


def _count(
    source: _Source,
    reading: Reading,
    target: Target,
    tolerances: Tolerances,
    settings: HpaSettings,
    now: float,
) -> Counted | Problem:
    goal = source.target
    if isinstance(reading, PodReadings):
        resource = "" if source.spec.type == "Pods" else source.name
        pods = Pods(target.pods, reading.samples, resource, source.container)
        if goal.average_value is not None:
            amount = milli(goal.average_value)
            return by_average(pods, amount, target.wanted, tolerances, settings, now)
        if goal.average_utilization is not None and source.spec.type != "Pods":
            share = goal.average_utilization
            return by_utilization(pods, share, target.wanted, tolerances, settings, now)
        return Problem(
            "invalid resource metric source: neither an average utilization target nor an average value (usage)"
            " target was set"
        )
    assert isinstance(reading, ValueReadings)
    usage = sum(reading.values_milli)
    if source.by_average and goal.average_value is not None:
        return by_average_value(usage, milli(goal.average_value), target.existing, tolerances)
    if goal.value is not None:
        return by_value(usage, milli(goal.value), target.wanted, target.pods, tolerances)
    kind = source.spec.type.lower()
    return Problem(
        f"invalid {kind} metric source: neither a value target nor an average value target was set"
    )


def _shown(source: _Source, counted: Counted) -> MetricValueStatus:
    amount = format_quantity(Decimal(counted.usage_milli) / 1000)
    whole = source.spec.type in ("Object", "External") and not source.by_average
    return MetricValueStatus(
        value=amount if whole else None,
        average_value=None if whole else amount,
        average_utilization=counted.utilization,
    )


def _fault(reading: Reading, *, of_pods: bool) -> str | None:
    """What forbids to count with this reading: it failed, is of another kind, or holds what no metric can be."""
    if isinstance(reading, Unread):
        return reading.message
    if isinstance(reading, PodReadings) != of_pods:
        return f"found {'values' if of_pods else 'samples of pods'}, expected the other"
    if isinstance(reading, PodReadings):
        amounts = [sample.value_milli for sample in reading.samples.values()]
    else:
        amounts = list(reading.values_milli)
    below = [amount for amount in amounts if amount < 0]
    if below:
        return f"found {format_quantity(Decimal(below[0]) / 1000)}, expected a value of 0 or more"
    return None


def _selector(selector: LabelSelector | None) -> str:
    """As Kubernetes prints one."""
    if selector is None:
        return "nil"
    labels = "".join(f"{key}: {value}," for key, value in sorted(selector.match_labels.items()))
    terms = "".join(
        f"LabelSelectorRequirement{{Key:{term.key},Operator:{term.operator},Values:[{' '.join(term.values)}],}},"
        for term in selector.match_expressions
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{terms}}},}}"
    )
