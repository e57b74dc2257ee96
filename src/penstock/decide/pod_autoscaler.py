"""Which revisions of this component scale by their requests, and with which settings?

In Knative mode every revision, unless the class says that Kubernetes' own autoscaler does. Settings follow KServe's mapping and change in
place: only what is part of the pods makes a new revision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from penstock.decide.revision import IDLE_SINCE
from penstock.decide.workload import component_labels
from penstock.resources.annotations import KNATIVE, mode_of
from penstock.resources.autoscaler_settings import DOMAIN, HPA_CLASS, annotations_of
from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.meta import Labels, ObjectMeta, controlled_by
from penstock.resources.pod_autoscaler import (
    INITIALIZED,
    REACHABLE,
    UNREACHABLE,
    PodAutoscaler,
    PodAutoscalerSpec,
)
from penstock.resources.serving import Component, InferenceService
from penstock.resources.workload import Deployment


def scaling_annotations(service: InferenceService, component: Component) -> Labels:
    """What says how the component's revisions scale; the component over the service."""
    return annotations_of({**service.metadata.annotations, **component.annotations}, component)


def scales_by_requests(service: InferenceService, component: Component) -> bool:
    """Whether the gateway's view of demand decides, and nothing else."""
    named = scaling_annotations(service, component).get(f"{DOMAIN}class", "")
    return mode_of(service) == KNATIVE and named != HPA_CLASS


def pod_autoscalers(
    service: InferenceService,
    name: str,
    component: Component,
    deployments: Iterable[Deployment],
    awake: Collection[str] = (),
) -> tuple[PodAutoscaler, ...]:
    """One for each revision. One that rests, since it lost its traffic, is not reachable: its size is the rollout's business.

    Those in `awake` keep a pod: revisions whose answers are compared, of which a cold start would say nothing.
    """
    if not scales_by_requests(service, component):
        return ()
    annotations = scaling_annotations(service, component)
    least = f"{DOMAIN}min-scale"
    kept = annotations | {least: "1"} if annotations.get(least) == "0" else annotations
    return tuple(
        _of(service, name, component, one, kept if one.metadata.name in awake else annotations)
        for one in deployments
    )


def initialized(scalers: Iterable[PodAutoscaler]) -> frozenset[str]:
    """The revisions that were ready once: without a pod they only sleep."""
    return frozenset(one.metadata.name for one in scalers if _says(one, INITIALIZED, "True"))


def given_up(scalers: Iterable[PodAutoscaler]) -> frozenset[str]:
    """The revisions that were never ready, and have lost their pods for it."""
    return frozenset(
        one.metadata.name
        for one in scalers
        if _says(one, "Active", "False") and not _says(one, INITIALIZED, "True")
    )


def _says(scaler: PodAutoscaler, condition: str, status: str) -> bool:
    return any(c.type == condition and c.status == status for c in scaler.status.conditions)


def _of(
    service: InferenceService, name: str, component: Component, deployment: Deployment, annotations: Labels
) -> PodAutoscaler:
    owner = controlled_by(service)
    meta = ObjectMeta(
        name=deployment.metadata.name,
        namespace=service.metadata.namespace,
        labels=component_labels(service, name),
        annotations=annotations,
        owner_references=(owner,),
    )
    rests = IDLE_SINCE in deployment.metadata.annotations
    spec = PodAutoscalerSpec(
        scale_target_ref=CrossVersionObjectReference(
            api_version="apps/v1", kind="Deployment", name=deployment.metadata.name
        ),
        reachability=UNREACHABLE if rests else REACHABLE,
        container_concurrency=component.container_concurrency or 0,
    )
    return PodAutoscaler(metadata=meta, spec=spec)
