"""Which autoscaler objects does this component ask for?

Standard mode, by the annotation `serving.kserve.io/autoscalerClass`: a HorizontalPodAutoscaler (hpa, the default), a KEDA
ScaledObject (keda), or nothing (external, none). Knative mode: a HorizontalPodAutoscaler for the class
`hpa.autoscaling.knative.dev`; requests are the business of a PodAutoscaler. Names, labels, defaults: KServe's and Knative's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import structs

from penstock.decide.component_triggers import scaled_object_spec
from penstock.decide.knative_hpa import knative_hpa_spec
from penstock.decide.pod_autoscaler import initialized
from penstock.decide.rollout import is_stopped
from penstock.decide.workload import ComponentName, component_labels, component_of
from penstock.resources.annotations import (
    AUTOSCALER_CLASS,
    KNATIVE,
    KNATIVE_CLASS,
    KNATIVE_HPA,
    STANDARD,
    mode_of,
)
from penstock.resources.autoscaling import (
    CrossVersionObjectReference,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec,
    MetricSpec,
    MetricTarget,
    ResourceMetricSource,
)
from penstock.resources.keda import RESOURCE_TRIGGERS, ScaledObject
from penstock.resources.meta import ObjectMeta, Resource, controlled_by
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.serving import Component, InferenceService, PredictorSpec, ResourceMetric

MADE: tuple[type[HorizontalPodAutoscaler] | type[ScaledObject], ...] = (HorizontalPodAutoscaler, ScaledObject)
"""Kinds that are made here: whatever a service owns of them and does not ask for any more is deleted."""
HPA, KEDA, EXTERNAL = "hpa", "keda", "external"
LEGACY_METRIC = "serving.kserve.io/metrics"
LEGACY_TARGET = "serving.kserve.io/targetUtilizationPercentage"
DEFAULT_METRIC, DEFAULT_UTILIZATION = "cpu", 80
_KEDA_PREFIXES = ("autoscaling.keda.sh/", "scaledobject.keda.sh/")


def autoscaler_objects(
    service: InferenceService,
    name: ComponentName,
    deployment: str,
    component: Component | None = None,
) -> tuple[Resource, ...]:
    """What scales `deployment`, the component's newest revision: none or one object of `MADE`, owned by the service.

    `component` stands for the one of the service's spec, where canaries lower its minimum.
    """
    component = component or component_of(service, name)
    if component is None or is_stopped(service) or _spans_pods(component):
        return ()
    given = service.metadata.annotations | component.annotations
    mode = mode_of(service)
    if mode == KNATIVE and given.get(KNATIVE_CLASS) == KNATIVE_HPA:
        own = _meta(service, name, deployment)
        by_hpa = knative_hpa_spec(_reference(deployment), component, given)
        return (HorizontalPodAutoscaler(metadata=own, spec=by_hpa),)
    if mode != STANDARD:
        return ()
    meta = _meta(service, name, autoscaler_name(service, name))
    wanted = service.metadata.annotations.get(AUTOSCALER_CLASS, HPA)
    if wanted == HPA:
        return (HorizontalPodAutoscaler(metadata=meta, spec=_hpa_spec(deployment, component, given)),)
    if wanted == KEDA:
        named = {key: value for key, value in given.items() if key.startswith(_KEDA_PREFIXES)}
        meta = structs.replace(meta, annotations=named)
        by_triggers = scaled_object_spec(deployment, component, _resource(component, given))
        return (ScaledObject(metadata=meta, spec=by_triggers),)
    return ()


def scaled_by_others(service: InferenceService) -> bool:
    """Whether the user said that somebody else sets the sizes; then they are left as they are."""
    wanted = service.metadata.annotations.get(AUTOSCALER_CLASS)
    return mode_of(service) == STANDARD and wanted == EXTERNAL


def standing_by(service: InferenceService, scalers: Iterable[Resource]) -> frozenset[str]:
    """The revisions that were ready once, so that at zero pods they only sleep; `scalers` are the service's own.

    KEDA may let a component sleep, and keeps no note of it: there it is the last revision that was ready.
    """
    scalers = tuple(scalers)
    ready = {status.latest_ready_revision for status in service.status.components.values()}
    targets = {s.spec.scale_target_ref.name for s in scalers if isinstance(s, ScaledObject)}
    return initialized(s for s in scalers if isinstance(s, PodAutoscaler)) | (targets & ready)


def autoscaler_name(service: InferenceService, name: ComponentName) -> str:
    """KServe's name of the component's workload in Standard mode."""
    own = service.spec.predictor.name if name == "predictor" else None
    return "-".join(filter(None, (service.metadata.name, own, name)))


def _hpa_spec(deployment: str, component: Component, given: Mapping[str, str]) -> HorizontalPodAutoscalerSpec:
    """A cluster's HPA does not scale to zero; a maximum that is not given, or too low, is the minimum."""
    least = max(1, 1 if component.min_replicas is None else component.min_replicas)
    scaling = component.auto_scaling
    resources = [m.resource for m in (scaling.metrics if scaling else ()) if m.resource is not None]
    sources = [ResourceMetricSource(name=one.name, target=_target(one.target)) for one in resources]
    return HorizontalPodAutoscalerSpec(
        scale_target_ref=_reference(deployment),
        min_replicas=least,
        max_replicas=max(component.max_replicas or 0, least),
        metrics=tuple(
            MetricSpec(type="Resource", resource=source)
            for source in sources or [_resource(component, given)]
        ),
        behavior=scaling.behavior if scaling else None,
    )


def _resource(component: Component, given: Mapping[str, str]) -> ResourceMetricSource:
    """`scaleMetric`, `scaleTarget` and `scaleMetricType` over the old annotations; 80 % of CPU without any.

    A resource has no Value of its own, so that each pod's is meant; of memory it is in MiB.
    """
    legacy = given.get(LEGACY_METRIC)
    metric = component.scale_metric or (legacy if legacy in RESOURCE_TRIGGERS else DEFAULT_METRIC)
    number = component.scale_target
    if number is not None and component.scale_metric_type in ("AverageValue", "Value"):
        amount = f"{number}Mi" if metric == "memory" else str(number)
        target = MetricTarget(type="AverageValue", average_value=amount)
    else:
        percent = _legacy_target(given) if number is None else number
        target = MetricTarget(type="Utilization", average_utilization=percent)
    return ResourceMetricSource(name=metric, target=target)


def _legacy_target(given: Mapping[str, str]) -> int:
    """A text that is no number counts as nothing said (KServe)."""
    text = given.get(LEGACY_TARGET, "")
    wanted = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    return wanted or DEFAULT_UTILIZATION


def _target(target: ResourceMetric) -> MetricTarget:
    return MetricTarget(
        type=target.type,
        value=target.value,
        average_value=target.average_value,
        average_utilization=target.average_utilization,
    )


def _spans_pods(component: Component) -> bool:
    """One model over several pods is not scaled (KServe's multi-node)."""
    return isinstance(component, PredictorSpec) and component.worker_spec is not None


def _reference(deployment: str) -> CrossVersionObjectReference:
    return CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name=deployment)


def _meta(service: InferenceService, name: ComponentName, own: str) -> ObjectMeta:
    component = component_of(service, name)
    owner = controlled_by(service)
    labels = {
        **service.metadata.labels,
        **(component.labels if component else {}),
        **component_labels(service, name),
        "app": f"isvc.{autoscaler_name(service, name)}",
    }
    return ObjectMeta(
        name=own, namespace=service.metadata.namespace, labels=labels, owner_references=(owner,)
    )
