"""What does a revision's Deployment look like, which number comes next, and is it ready?

An immutable Deployment per distinct pod template of a component, named `{service}-{component}-00001` and so on. It keeps the
part of the service's spec that it was made from, so that a rollback restores what the user wrote.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from penstock.decide.deployment import replicas_of
from penstock.decide.workload import component_labels
from penstock.kit.durations import parse_duration_s
from penstock.kit.errors import InvalidInput
from penstock.kit.hashing import short_hash
from penstock.resources.annotations import PROGRESS_DEADLINE
from penstock.resources.meta import IntOrString, Labels, LabelSelector, ObjectMeta, controlled_by
from penstock.resources.pod import PodTemplateSpec
from penstock.resources.serving import Component, ComponentStatus, InferenceService
from penstock.resources.workload import Deployment, DeploymentSpec, DeploymentStrategy

REVISION_LABEL = "penstock.dev/revision"
TEMPLATE_HASH = "penstock.dev/template-hash"
COMPONENT_SPEC = "penstock.dev/component-spec"
IDLE_SINCE = "penstock.dev/idle-since"
CHANGE_CAUSE = "kubernetes.io/change-cause"
PROGRESS_DEADLINE_S = 600
OF_THE_SERVICE = (
    "canary_traffic_percent",
    "min_replicas",
    "max_replicas",
    "scale_target",
    "scale_metric",
    "scale_metric_type",
    "auto_scaling",
)
"""Fields of a component that belong to the service as it is now: they make no revision, and going back keeps them."""


def new_revision(
    service: InferenceService,
    name: str,
    component: Component,
    template: PodTemplateSpec,
    revision: str,
    size: int,
) -> Deployment:
    """The Deployment of a component's pod template, owned by the service, with `size` pods."""
    meta = service.metadata
    labels: Labels = {
        **component_labels(service, name),
        "app": f"isvc.{meta.name}-{name}",
        REVISION_LABEL: revision,
    }
    pod_meta = msgspec.structs.replace(template.metadata, labels=template.metadata.labels | labels)
    cause = meta.annotations.get(CHANGE_CAUSE)
    owner = controlled_by(service)
    return Deployment(
        metadata=ObjectMeta(
            name=revision,
            namespace=meta.namespace,
            labels={**labels, TEMPLATE_HASH: short_hash(template)},
            annotations={COMPONENT_SPEC: kept_spec(component), **({CHANGE_CAUSE: cause} if cause else {})},
            owner_references=(owner,),
        ),
        spec=DeploymentSpec(
            replicas=size,
            selector=LabelSelector(match_labels={REVISION_LABEL: revision}),
            template=msgspec.structs.replace(template, metadata=pod_meta),
            strategy=_strategy(component.deployment_strategy),
            progress_deadline_seconds=progress_deadline_s(template.metadata.annotations),
        ),
    )


def kept_spec(component: Component) -> str:
    """The part of a component's spec that makes a revision, as JSON."""
    fields = dict.fromkeys(OF_THE_SERVICE)
    return msgspec.json.encode(msgspec.structs.replace(component, **fields), order="sorted").decode()


def progress_deadline_s(annotations: Labels) -> int:
    """How long a revision may take to get ready; 600 s where nothing (or nothing that can be read) is said (Knative)."""
    try:
        return parse_duration_s(annotations.get(PROGRESS_DEADLINE, "")) or PROGRESS_DEADLINE_S
    except InvalidInput:
        return PROGRESS_DEADLINE_S


def is_ready(deployment: Deployment) -> bool:
    """Whether the revision can take its share: enough of its pods are available."""
    wished = replicas_of(deployment)
    current = deployment.status.observed_generation >= deployment.metadata.generation
    available = any(c.type == "Available" and c.status == "True" for c in deployment.status.conditions)
    return current and wished > 0 and available and deployment.status.available_replicas > 0


def can_serve(deployment: Deployment, initialized: frozenset[str]) -> bool:
    """Whether requests for it are answered: by its pods, or, where its autoscaler let it sleep, by those that it wakes.

    `initialized` are revisions that were ready once. One that lost its traffic was put to rest by the rollout, and does not sleep.
    """
    sleeps = not replicas_of(deployment) and IDLE_SINCE not in deployment.metadata.annotations
    return is_ready(deployment) or (sleeps and deployment.metadata.name in initialized)


def number_of(revision: str) -> int:
    """The number at the end of a revision's name, 0 for what has none."""
    tail = revision.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0


def next_name(
    service: InferenceService, name: str, deployments: Iterable[Deployment], before: ComponentStatus
) -> str:
    """Numbers are never used again, also when the revision that had one is gone."""
    return f"{service.metadata.name}-{name}-{number_of(highest(deployments, before)) + 1:05d}"


def highest(deployments: Iterable[Deployment], before: ComponentStatus) -> str:
    """The revision with the highest number of all that are known, "" if there never was one."""
    names = [d.metadata.name for d in deployments]
    names += [before.latest_created_revision, before.latest_ready_revision]
    names += [before.latest_rolledout_revision, before.previous_rolledout_revision]
    return max(names, key=number_of)


def _strategy(strategy: DeploymentStrategy | None) -> DeploymentStrategy | None:
    """KServe takes numbers in quotes, a Deployment takes them bare."""
    if strategy is None or strategy.rolling_update is None:
        return strategy
    update = strategy.rolling_update
    return msgspec.structs.replace(
        strategy,
        rolling_update=msgspec.structs.replace(
            update, max_surge=_bare(update.max_surge), max_unavailable=_bare(update.max_unavailable)
        ),
    )


def _bare(amount: IntOrString | None) -> IntOrString | None:
    return int(amount) if isinstance(amount, str) and amount.isdecimal() else amount
