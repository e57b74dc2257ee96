"""Which revisions exist, and how many pods has each?

Each distinct pod template of a component is a revision (`decide/revision.py`); `decide/traffic.py` shares the traffic out. A revision
with traffic, and the newest, keep their pods; one that lost its traffic drains, rests at zero, and is kept for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.decide.deployment import replicas_of
from penstock.decide.revision import IDLE_SINCE, TEMPLATE_HASH, highest, new_revision, next_name, number_of
from penstock.decide.traffic import NOTHING, Known, share_traffic, takes_back
from penstock.kit.hashing import short_hash
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.pod import PodTemplateSpec
from penstock.resources.serving import Component, ComponentStatus, InferenceService
from penstock.resources.workload import Deployment

STOP = "serving.kserve.io/stop"
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
    known: Known = NOTHING,
) -> Rollout:
    """`template` is None while it cannot be made: then what runs stays. `deployments` are this component's revisions."""
    ordered = sorted(deployments, key=lambda d: number_of(d.metadata.name))
    before = service.status.components.get(name, ComponentStatus())
    if is_stopped(service):
        return _withdrawn(ordered, before, "the service is stopped")
    create, current = _current(service, name, component, template, ordered, before, known)
    status = share_traffic(service, component, before, current, ordered, known)
    used = {target.revision_name for target in status.traffic} | ({current} - known.failed)
    if takes_back(service, component, status):
        used.add(status.previous_rolledout_revision)
    steps = [
        _step(component, deployment, deployment.metadata.name in used, now, known) for deployment in ordered
    ]
    kept = used | {current, status.previous_rolledout_revision}
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
    ordered = sorted(deployments, key=lambda d: number_of(d.metadata.name))
    before = service.status.components.get(name, ComponentStatus())
    return _withdrawn(ordered, before, f"the service has no {name} any more")


def is_stopped(service: InferenceService) -> bool:
    """Whether the user wants no pods at all."""
    return service.metadata.annotations.get(STOP) == "true"


def _withdrawn(ordered: list[Deployment], before: ComponentStatus, why: str) -> Rollout:
    """Everything goes, once the status holds the highest number: a restart in between does not use it again."""
    newest = highest(ordered, before)
    status = ComponentStatus(latest_created_revision=newest)
    if newest != before.latest_created_revision:
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
    known: Known,
) -> tuple[Deployment | None, str]:
    """The revision of the present template: one to create, or None, and its name."""
    if template is None:
        return None, before.latest_created_revision
    wanted = short_hash(template)
    for deployment in reversed(ordered):
        if deployment.metadata.labels.get(TEMPLATE_HASH) == wanted:
            return None, deployment.metadata.name
    serving = _serving_size(ordered, before)
    size = _bounded(component, max(serving, known.initial_scale)) if serving or known.initial_scale else 0
    revision = next_name(service, name, ordered, before)
    return new_revision(service, name, component, template, revision, size), revision


@dataclass(frozen=True, slots=True)
class _Step:
    """One existing revision: a new `size` or None; whether to write `idle_since`; when to look again."""

    revision: str
    size: int | None = None
    marks: bool = False
    idle_since: str | None = None
    wait_s: float | None = None
    reason: str = ""


def _step(component: Component, deployment: Deployment, used: bool, now: float, known: Known) -> _Step:
    """An autoscaler owns the size of what has traffic, from when the rollout has brought it back from its rest."""
    revision, size = deployment.metadata.name, replicas_of(deployment)
    since = deployment.metadata.annotations.get(IDLE_SINCE)
    if used and revision in known.sized_elsewhere and since is None:
        return _Step(revision)
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
