"""Which revisions exist, and who gets which share of traffic?

An immutable Deployment per distinct pod template, named `{service}-{component}-00001` and so on. Traffic follows KServe's
rules for `canaryTrafficPercent`: p percent to the latest ready revision, the rest to the one that was fully rolled out before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from penstock.decide.deployment import replicas_of
from penstock.decide.workload import component_labels
from penstock.kit.hashing import short_hash
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.meta import IntOrString, Labels, LabelSelector, ObjectMeta, OwnerReference
from penstock.resources.pod import PodTemplateSpec
from penstock.resources.serving import Component, ComponentStatus, InferenceService, TrafficTarget
from penstock.resources.workload import Deployment, DeploymentSpec, DeploymentStrategy

REVISION_LABEL = "penstock.dev/revision"
TEMPLATE_HASH = "penstock.dev/template-hash"
STOP = "serving.kserve.io/stop"
IDLE_SINCE = "penstock.dev/idle-since"
DRAIN_S = 5.0
"""How long a revision keeps its pods after it lost its traffic: gateways have learnt of it, and its streams go on draining."""
KEPT_REVISIONS = 5
"""Revisions without traffic that are kept at zero pods, to roll back to."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What to do about one component's revisions."""

    create: Deployment | None = None
    scale: tuple[tuple[str, int], ...] = ()
    mark_idle: tuple[tuple[str, str | None], ...] = ()
    delete: tuple[str, ...] = ()
    status: ComponentStatus = field(default_factory=ComponentStatus)
    again_s: float | None = None
    reasons: tuple[str, ...] = ()


def plan_rollout(
    service: InferenceService,
    name: str,
    component: Component,
    template: PodTemplateSpec | None,
    deployments: tuple[Deployment, ...],
    now: float,
) -> Rollout:
    """`template` is None while it cannot be made: then what runs stays. `deployments` are this component's revisions."""
    ordered = sorted(deployments, key=lambda d: _number(d.metadata.name))
    before = service.status.components.get(name, ComponentStatus())
    if is_stopped(service):
        return _withdrawn(ordered, before, "the service is stopped")
    create, current = _current(service, name, component, template, ordered, before)
    status = _traffic(component, before, current, ordered)
    used = {target.revision_name for target in status.traffic} | {current}
    if _takes_back(component, status):
        used.add(status.previous_rolledout_revision)
    steps = [_step(component, deployment, deployment.metadata.name in used, now) for deployment in ordered]
    kept = used | {status.previous_rolledout_revision}
    unused = [d.metadata.name for d in ordered if d.metadata.name not in kept and not replicas_of(d)]
    reasons = [step.reason for step in steps if step.reason]
    return Rollout(
        create=create,
        scale=tuple((step.revision, step.size) for step in steps if step.size is not None),
        mark_idle=tuple((step.revision, step.idle_since) for step in steps if step.marks),
        delete=tuple(unused[: max(0, len(unused) - KEPT_REVISIONS)]),
        status=status,
        again_s=min((step.wait_s for step in steps if step.wait_s is not None), default=None),
        reasons=(*reasons, f"new revision {create.metadata.name}") if create else tuple(reasons),
    )


def plan_removal(service: InferenceService, name: str, deployments: tuple[Deployment, ...]) -> Rollout:
    """For a component that the service no longer has; its highest number stays in the status, should it come back."""
    ordered = sorted(deployments, key=lambda d: _number(d.metadata.name))
    before = service.status.components.get(name, ComponentStatus())
    return _withdrawn(ordered, before, f"the service has no {name} any more")


def is_stopped(service: InferenceService) -> bool:
    """Whether the user wants no pods at all."""
    return service.metadata.annotations.get(STOP) == "true"


def _withdrawn(ordered: list[Deployment], before: ComponentStatus, why: str) -> Rollout:
    """Everything goes, once the status holds the highest number: a restart in between does not use it again."""
    highest = _highest(ordered, before)
    status = ComponentStatus(latest_created_revision=highest)
    if highest != before.latest_created_revision:
        return Rollout(status=status, again_s=0.0)
    names = tuple(deployment.metadata.name for deployment in ordered)
    return Rollout(delete=names, status=status, reasons=tuple(f"{name} goes, {why}" for name in names))


def _current(
    service: InferenceService,
    name: str,
    component: Component,
    template: PodTemplateSpec | None,
    ordered: list[Deployment],
    before: ComponentStatus,
) -> tuple[Deployment | None, str]:
    """The revision of the present template: one to create, or None, and its name."""
    if template is None:
        return None, before.latest_created_revision
    wanted = short_hash(template)
    for deployment in reversed(ordered):
        if deployment.metadata.labels.get(TEMPLATE_HASH) == wanted:
            return None, deployment.metadata.name
    size = _bounded(component, _serving_size(ordered, before))
    revision = _next_name(service, name, ordered, before)
    return _revision(service, name, component, template, revision, size), revision


@dataclass(frozen=True, slots=True)
class _Step:
    """One existing revision: a new `size` or None; whether to write `idle_since`; when to look again."""

    revision: str
    size: int | None = None
    marks: bool = False
    idle_since: str | None = None
    wait_s: float | None = None
    reason: str = ""


def _step(component: Component, deployment: Deployment, used: bool, now: float) -> _Step:
    revision, size = deployment.metadata.name, replicas_of(deployment)
    since = deployment.metadata.annotations.get(IDLE_SINCE)
    if used:
        wished = _bounded(component, size)
        changed = wished if wished != size else None
        reason = f"{revision} to {wished} pods" if changed else ""
        return _Step(revision, changed, marks=since is not None, reason=reason)
    if since is None:
        return _Step(revision, marks=True, idle_since=rfc3339(now), wait_s=DRAIN_S)
    if not size:
        return _Step(revision)
    left_s = parse_rfc3339(since) + DRAIN_S - now
    if left_s > 0:
        return _Step(revision, wait_s=left_s)
    return _Step(revision, 0, reason=f"{revision} has no traffic any more: to 0 pods")


def is_ready(deployment: Deployment) -> bool:
    """Whether the revision can take its share: enough of its pods are available."""
    wished = replicas_of(deployment)
    current = deployment.status.observed_generation >= deployment.metadata.generation
    available = any(c.type == "Available" and c.status == "True" for c in deployment.status.conditions)
    return current and wished > 0 and available and deployment.status.available_replicas > 0


def minimum_of(component: Component) -> int:
    """The least number of pods of a revision that serves; scaling to zero is the autoscaler's to decide."""
    return max(1, 1 if component.min_replicas is None else component.min_replicas)


def _bounded(component: Component, size: int) -> int:
    """A size that somebody set is kept within the service's bounds."""
    bounded = max(minimum_of(component), size)
    return min(bounded, max(component.max_replicas, 1)) if component.max_replicas else bounded


def _serving_size(deployments: list[Deployment], before: ComponentStatus) -> int:
    """A new revision starts with as many pods as the one that it replaces."""
    return next((replicas_of(d) for d in deployments if d.metadata.name == before.latest_ready_revision), 0)


def _traffic(
    component: Component, before: ComponentStatus, current: str, deployments: list[Deployment]
) -> ComponentStatus:
    by_name = {deployment.metadata.name: deployment for deployment in deployments}
    rolled, previous = before.latest_rolledout_revision, before.previous_rolledout_revision
    rolled = rolled if rolled in by_name else ""
    latest_ready = before.latest_ready_revision if before.latest_ready_revision in by_name else rolled
    if current in by_name and is_ready(by_name[current]):
        latest_ready = current
    percent = _canary_percent(component)
    settled = msgspec.structs.replace(
        before,
        latest_created_revision=current,
        latest_ready_revision=latest_ready,
        latest_rolledout_revision=rolled,
    )
    if _takes_back(component, settled) and previous in by_name and is_ready(by_name[previous]):
        rolled = previous
    targets: tuple[TrafficTarget, ...] = ()
    if percent is not None and rolled and rolled != latest_ready:
        targets = (
            TrafficTarget(revision_name=latest_ready, percent=percent, latest_revision=True),
            TrafficTarget(revision_name=rolled, percent=100 - percent, latest_revision=False, tag="prev"),
        )
    elif latest_ready:
        targets = (TrafficTarget(revision_name=latest_ready, percent=100, latest_revision=True),)
        if latest_ready != rolled:
            previous, rolled = rolled or previous, latest_ready
    return msgspec.structs.replace(
        settled,
        latest_rolledout_revision=rolled,
        previous_rolledout_revision=previous,
        traffic=targets,
    )


def _canary_percent(component: Component) -> int | None:
    """None when the latest ready revision shall have all."""
    percent = component.canary_traffic_percent
    return percent if percent is not None and percent < 100 else None


def _takes_back(component: Component, status: ComponentStatus) -> bool:
    """Whether a share below 100 is asked of the newest revision after it had all: then the one before comes back.

    It gets its traffic when its pods are there. While a newer revision still starts, the share is meant for that one.
    """
    rolled = status.latest_rolledout_revision
    newest = rolled == status.latest_ready_revision == status.latest_created_revision
    return _canary_percent(component) is not None and bool(rolled) and newest


def _next_name(
    service: InferenceService, name: str, deployments: list[Deployment], before: ComponentStatus
) -> str:
    """Numbers are never used again, also when the revision that had one is gone."""
    return f"{service.metadata.name}-{name}-{_number(_highest(deployments, before)) + 1:05d}"


def _highest(deployments: list[Deployment], before: ComponentStatus) -> str:
    """The revision with the highest number of all that are known, "" if there never was one."""
    names = [d.metadata.name for d in deployments]
    names += [before.latest_created_revision, before.latest_ready_revision]
    names += [before.latest_rolledout_revision, before.previous_rolledout_revision]
    return max(names, key=_number)


def _number(revision: str) -> int:
    """0 for what has none."""
    tail = revision.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0


def _revision(
    service: InferenceService,
    name: str,
    component: Component,
    template: PodTemplateSpec,
    revision: str,
    size: int,
) -> Deployment:
    meta = service.metadata
    labels: Labels = {
        **component_labels(service, name),
        "app": f"isvc.{meta.name}-{name}",
        REVISION_LABEL: revision,
    }
    pod_meta = msgspec.structs.replace(template.metadata, labels=template.metadata.labels | labels)
    owner = OwnerReference(
        api_version=service.api_version,
        kind=service.kind,
        name=meta.name,
        uid=meta.uid,
        controller=True,
        block_owner_deletion=True,
    )
    return Deployment(
        metadata=ObjectMeta(
            name=revision,
            namespace=meta.namespace,
            labels={**labels, TEMPLATE_HASH: short_hash(template)},
            owner_references=(owner,),
        ),
        spec=DeploymentSpec(
            replicas=size,
            selector=LabelSelector(match_labels={REVISION_LABEL: revision}),
            template=msgspec.structs.replace(template, metadata=pod_meta),
            strategy=_strategy(component.deployment_strategy),
            progress_deadline_seconds=600,
        ),
    )


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
