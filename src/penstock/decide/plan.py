"""What follows from this InferenceService, all in all: which runtime, which pods, which revisions?

Ties the decisions for one service together, so that the controller, `penstock render` and `penstock explain` come to the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec

from penstock.decide.autoscalers import autoscaler_objects, scaled_by_others
from penstock.decide.canaries import (
    CANARY_LABEL,
    Canaries,
    canary_service,
    lowered,
    plan_canaries,
    with_shares,
)
from penstock.decide.handover import Handover, Room, is_in_handover, plan_handover
from penstock.decide.pod_autoscaler import pod_autoscalers, scales_by_requests, scaling_annotations
from penstock.decide.progression import PROGRESSING, ROLLED_BACK, WAITING, rollout_name, shares_of
from penstock.decide.rollout import Rollout, is_stopped, plan_removal, plan_rollout
from penstock.decide.rollout_policy import follows_policy
from penstock.decide.runtime import Choice, choose_runtime
from penstock.decide.scale_target import leading_revision
from penstock.decide.traffic import Known, asked_percent
from penstock.decide.workload import (
    COMPONENTS,
    ComponentName,
    Workload,
    build_workload,
    component_labels,
    component_of,
)
from penstock.resources.autoscaler_config import DEFAULTS, AutoscalerConfig
from penstock.resources.autoscaler_settings import settings_of
from penstock.resources.meta import Resource
from penstock.resources.pod import EnvVar
from penstock.resources.rollout import Rollout as RolloutObject
from penstock.resources.rollout import RolloutStatus
from penstock.resources.runtime import ClusterServingRuntime, ClusterStorageContainer, ServingRuntime
from penstock.resources.serving import Component, ComponentStatus, InferenceService
from penstock.resources.workload import Deployment, DeploymentStatus


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the service itself. `gateway_addr` is HOST:PORT; `secret_env` carries credentials for its models,
    `storage_failure` says why it is not known where they are.

    `initialized` and `sized_elsewhere` name revisions that were ready once, and those whose size an autoscaler owns. `autoscaler` is the
    cluster's configuration of scaling by requests; `room` is needed while a revision has yet to take over.
    """

    gateway_addr: str
    runtimes: tuple[ServingRuntime, ...] = ()
    cluster_runtimes: tuple[ClusterServingRuntime, ...] = ()
    storage_containers: tuple[ClusterStorageContainer, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    secret_env: tuple[EnvVar, ...] = ()
    storage_failure: str = ""
    rollouts: tuple[RolloutObject, ...] = ()
    initialized: frozenset[str] = frozenset()
    sized_elsewhere: frozenset[str] = frozenset()
    autoscaler: AutoscalerConfig = DEFAULTS
    room: Room = field(default_factory=Room)


@dataclass(frozen=True, slots=True)
class ComponentPlan:
    """One component, decided. `deployments` are its present revisions; one that was removed has an empty workload."""

    name: ComponentName
    workload: Workload
    rollout: Rollout
    deployments: tuple[Deployment, ...]
    canaries: Canaries = field(default_factory=Canaries)
    autoscalers: tuple[Resource, ...] = ()
    handover: Handover = field(default_factory=Handover)
    rolled_back: str = ""


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """The runtime, and every component that the service has or had."""

    choice: Choice
    components: tuple[ComponentPlan, ...]


def plan_service(service: InferenceService, known: Surroundings, now: float) -> ServicePlan:
    """`known.runtimes` are those of the service's namespace; deployments that it does not own are left out here."""
    choice = Choice()
    if service.spec.predictor.model is not None:
        choice = choose_runtime(service, known.runtimes, known.cluster_runtimes)
    parts = (_component(service, name, choice, known, now) for name in COMPONENTS)
    return ServicePlan(choice, tuple(part for part in parts if part is not None))


def service_url(service: InferenceService, gateway_addr: str) -> str:
    """Where the service answers, by path."""
    return f"http://{gateway_addr}/serving/{service.metadata.namespace}/{service.metadata.name}"


def _component(
    service: InferenceService, name: ComponentName, choice: Choice, known: Surroundings, now: float
) -> ComponentPlan | None:
    """None for what the service has not, and never had."""
    component = component_of(service, name)
    own = tuple(d for d in known.deployments if _is_part(d, service, name))
    if component is not None:
        workload = _workload(service, name, choice, known)
        canaries = _canaries(service, workload, own, known, now) if name == "predictor" else Canaries()
        revisions = _revisions(own, canaries)
        handover = _handover(service, name, component, revisions, known, now)
        stable = lowered(component, canaries.ready_replicas)
        rollout = plan_rollout(
            service,
            name,
            stable,
            workload.template,
            revisions,
            now,
            _with_handover(_known(service, name, component, known), handover),
        )
        status = with_shares(rollout.status, canaries.shares)
        told = _rollout_status(service, name, known)
        compared = (told.stable, told.canary) if told.phase in (WAITING, PROGRESSING) else ()
        autoscalers = (
            *pod_autoscalers(service, name, component, revisions, compared),
            *_by_metrics(service, name, stable, rollout.status, revisions),
        )
        shared = replace(rollout, status=status)
        newest = status.latest_created_revision
        back = told.message if told.phase == ROLLED_BACK and told.canary == newest else ""
        return ComponentPlan(name, workload, shared, own, canaries, autoscalers, handover, back)
    if own or name in service.status.components:
        return ComponentPlan(name, Workload(), plan_removal(service, name, own), own)
    return None


def _by_metrics(
    service: InferenceService,
    name: ComponentName,
    stable: Component,
    status: ComponentStatus,
    revisions: tuple[Deployment, ...],
) -> tuple[Resource, ...]:
    """What scales the revision with the largest share by anything but its requests; while it hands its devices over, nothing does."""
    serving = leading_revision(status)
    asleep = {d.metadata.name for d in revisions if is_in_handover(d)}
    return autoscaler_objects(service, name, serving, stable) if serving and serving not in asleep else ()


def _handover(
    service: InferenceService,
    name: ComponentName,
    component: Component,
    revisions: tuple[Deployment, ...],
    known: Surroundings,
    now: float,
) -> Handover:
    """Two that shall serve beside each other need room for both."""
    if is_stopped(service):
        return Handover()
    alone = asked_percent(service, component) in (None, 100) and not follows_policy(service)
    status = service.status.components.get(name, ComponentStatus())
    return plan_handover(service, status, revisions, known.room, now, alone=alone)


def _with_handover(known: Known, handover: Handover) -> Known:
    return replace(
        known,
        sized_elsewhere=known.sized_elsewhere | handover.held,
        failed=known.failed | handover.failed,
        enough=handover.enough,
    )


def _rollout_status(service: InferenceService, name: str, known: Surroundings) -> RolloutStatus:
    own = rollout_name(service.metadata.name, name)
    return next((r.status for r in known.rollouts if r.metadata.name == own), RolloutStatus())


def _known(
    service: InferenceService, name: ComponentName, component: Component, known: Surroundings
) -> Known:
    """What the automatic rollout says, where there is one: the user's own percent holds instead of it."""
    shares: dict[str, int] | None = None
    failed: frozenset[str] = frozenset()
    if follows_policy(service):
        shares, failed = shares_of(_rollout_status(service, name, known))
    if asked_percent(service, component) is not None:
        failed = frozenset()
    initial_scale = _initial_scale(service, component, known)
    elsewhere = known.sized_elsewhere
    if scaled_by_others(service) or not initial_scale:  # at zero before its autoscaler is there, too
        elsewhere |= {deployment.metadata.name for deployment in known.deployments}
    return Known(known.initialized, elsewhere, failed, shares, initial_scale)


def _initial_scale(service: InferenceService, component: Component, known: Surroundings) -> int:
    """How many pods a new revision starts with; 0 only for one that may sleep from the beginning."""
    if not scales_by_requests(service, component):
        return 1
    annotations = scaling_annotations(service, component)
    settings = settings_of(annotations, component.container_concurrency or 0, known.autoscaler)
    return max(settings.initial_scale, settings.min_scale)


def _canaries(
    service: InferenceService,
    stable: Workload,
    own: tuple[Deployment, ...],
    known: Surroundings,
    now: float,
) -> Canaries:
    """Those of `spec.canary`, each with the runtime that suits it."""
    workloads: dict[str, Workload] = {}
    for canary in service.spec.canary:
        changed = canary_service(service, canary)
        choice = choose_runtime(changed, known.runtimes, known.cluster_runtimes)
        workloads[canary.predictor.name or ""] = _workload(changed, "predictor", choice, known)
    return plan_canaries(service, workloads, stable.template, own, now)


def _revisions(own: tuple[Deployment, ...], canaries: Canaries) -> tuple[Deployment, ...]:
    """Those of the stable predictor. A canary that is promoted takes over once it has grown to the stable one's size."""
    return tuple(
        msgspec.structs.replace(deployment, status=DeploymentStatus())
        if deployment.metadata.name in canaries.adopt
        else deployment
        for deployment in own
        if CANARY_LABEL not in deployment.metadata.labels or deployment.metadata.name in canaries.adopt
    )


def _workload(
    service: InferenceService, name: ComponentName, choice: Choice, known: Surroundings
) -> Workload:
    if name == "predictor" and choice.reason:
        return Workload(failure=choice.message)
    if name == "predictor" and known.storage_failure:
        return Workload(failure=known.storage_failure)
    return build_workload(
        service,
        name,
        choice.runtime if name == "predictor" else None,
        storage_containers=known.storage_containers,
        secret_env=known.secret_env,
        predictor_host=service_url(service, known.gateway_addr).removeprefix("http://") + "-predictor",
    )


def _is_part(deployment: Deployment, service: InferenceService, name: str) -> bool:
    labels = deployment.metadata.labels
    selected = all(labels.get(key) == value for key, value in component_labels(service, name).items())
    return selected and any(
        owner.uid == service.metadata.uid for owner in deployment.metadata.owner_references
    )
