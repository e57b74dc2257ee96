"""Which Deployment is meant by the name of an InferenceService's component?

KServe's Standard mode has one Deployment for each component, `NAME-predictor`, which people's own autoscalers name. Here each
revision has its own, so that the name stands for the revision that an autoscaler of the service's own would scale.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from msgspec import structs

from penstock.decide.autoscalers import autoscaler_name
from penstock.decide.handover import is_in_handover
from penstock.decide.rollout import is_stopped
from penstock.decide.scaling_conflict import Autoscaler
from penstock.decide.workload import COMPONENTS, SERVICE_LABEL, ComponentName, component_of
from penstock.resources.meta import Labels
from penstock.resources.serving import ComponentStatus, InferenceService
from penstock.resources.vpa import VerticalPodAutoscaler
from penstock.resources.workload import Deployment

A = TypeVar("A", bound=Autoscaler)


def leading_revision(status: ComponentStatus) -> str:
    """The revision with the largest share of a component's traffic, else the newest; "" where there is none."""
    shares = {target.revision_name: target.percent or 0 for target in status.traffic}
    return max(shares, key=lambda revision: shares[revision], default=status.latest_created_revision)


def revision_meant(name: str, services: Iterable[InferenceService], deployments: Iterable[Deployment]) -> str:
    """The Deployment that `name` stands for; "" where it names no component, or one of which nothing may be scaled now.

    `services` and `deployments` are those of one namespace. A Deployment of that name is meant as it is; ask only where there is none.
    """
    for service in services:
        for component in COMPONENTS:
            if component_of(service, component) is None or name not in names_of(service, component):
                continue
            revision = leading_revision(service.status.components.get(component, ComponentStatus()))
            asleep = any(d.metadata.name == revision and is_in_handover(d) for d in deployments)
            return "" if asleep or is_stopped(service) else revision
    return ""


def names_of(service: InferenceService, component: ComponentName) -> tuple[str, str]:
    """What KServe calls the component's Deployment, with the predictor's own name and without it."""
    return autoscaler_name(service, component), f"{service.metadata.name}-{component}"


def name_by_labels(labels: Labels) -> str:
    """The component that a revision's objects belong to, by their labels; "" for objects of nobody's."""
    service, component = labels.get(SERVICE_LABEL, ""), labels.get("component", "")
    return f"{service}-{component}" if service and component else ""


def aimed_at(scaler: A, name: str) -> A:
    """The autoscaler with `name` as the name of its target."""
    field = "target_ref" if isinstance(scaler, VerticalPodAutoscaler) else "scale_target_ref"
    reference = structs.replace(getattr(scaler.spec, field), name=name)
    spec = structs.replace(scaler.spec, **{field: reference})
    return structs.replace(scaler, spec=spec)
