"""Which ReplicaSets should this Deployment have now, and at which size?

Kubernetes' rolling update (apps/v1): up to `maxSurge` pods more and `maxUnavailable` fewer than wished; new pods first, then
old ones go as new ones become available. The ready pods never fall below wished − maxUnavailable by our doing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import msgspec

from penstock.kit.hashing import short_hash
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.meta import Condition, IntOrString, LabelSelector, ObjectMeta, OwnerReference
from penstock.resources.workload import (
    Deployment,
    DeploymentStatus,
    ReplicaSet,
    ReplicaSetSpec,
)

REVISION = "deployment.kubernetes.io/revision"
HASH_LABEL = "pod-template-hash"
DEFAULT_REPLICAS = 1
DEFAULT_HISTORY = 10
DEFAULT_PROGRESS_DEADLINE_S = 600
DEFAULT_BUDGET = "25%"


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """What to do next. `scale` and `annotate` name ReplicaSets; `again_s` is when to look again without a change."""

    create: ReplicaSet | None = None
    scale: tuple[tuple[str, int], ...] = ()
    delete: tuple[str, ...] = ()
    annotate: tuple[tuple[str, str], ...] = ()
    revision: str = ""
    status: DeploymentStatus | None = None
    again_s: float | None = None
    reasons: tuple[str, ...] = ()


def plan_deployment(
    deployment: Deployment, replica_sets: tuple[ReplicaSet, ...], now: float
) -> DeploymentPlan:
    """The next step towards the Deployment's template and size; `replica_sets` are those that it owns."""
    wished = replicas_of(deployment)
    new = current_replica_set(deployment, replica_sets)
    old = tuple(sorted((rs for rs in replica_sets if rs is not new), key=_revision))
    step = DeploymentPlan()
    if deployment.spec.paused:
        step = _paused(new, old, wished)
    elif _strategy(deployment) == "Recreate":
        step = _recreate(deployment, new, old, wished)
    else:
        step = _rolling(deployment, new, old, wished)
    revision = _next_revision(new, old)
    if step.create is not None:
        created = step.create.metadata
        step = replace(
            step,
            create=msgspec.structs.replace(
                step.create, metadata=msgspec.structs.replace(created, annotations={REVISION: revision})
            ),
        )
    annotate = (
        ((new.metadata.name, revision),)
        if new is not None and new.metadata.annotations.get(REVISION) != revision
        else ()
    )
    status, again_s = _status(deployment, new, replica_sets, step, now)
    return replace(
        step,
        delete=_outdated(deployment, old),
        annotate=annotate,
        revision=revision if new is not None or step.create is not None else "",
        status=status,
        again_s=again_s,
    )


def replicas_of(deployment: Deployment) -> int:
    """The wished number of pods."""
    return DEFAULT_REPLICAS if deployment.spec.replicas is None else deployment.spec.replicas


def current_replica_set(deployment: Deployment, replica_sets: tuple[ReplicaSet, ...]) -> ReplicaSet | None:
    """The ReplicaSet of the Deployment's present template."""
    wished = template_hash(deployment)
    return next((rs for rs in replica_sets if rs.metadata.labels.get(HASH_LABEL) == wished), None)


def template_hash(deployment: Deployment) -> str:
    """What names a template: the same pods have the same hash."""
    return short_hash(deployment.spec.template)


def budget(deployment: Deployment) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods: percentages are rounded up and down; never both zero (Kubernetes)."""
    wished = replicas_of(deployment)
    rolling = deployment.spec.strategy.rolling_update if deployment.spec.strategy else None
    surge = _share(rolling.max_surge if rolling else None, wished, up=True)
    unavailable = _share(rolling.max_unavailable if rolling else None, wished, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, wished)


def _share(value: IntOrString | None, wished: int, *, up: bool) -> int:
    value = DEFAULT_BUDGET if value is None else value
    if isinstance(value, int):
        return value
    part = wished * float(value.rstrip("%")) / 100
    return math.ceil(part) if up else math.floor(part)


def _strategy(deployment: Deployment) -> str:
    return (deployment.spec.strategy.type if deployment.spec.strategy else "") or "RollingUpdate"


def _size(replica_set: ReplicaSet) -> int:
    return DEFAULT_REPLICAS if replica_set.spec.replicas is None else replica_set.spec.replicas


def _rolling(
    deployment: Deployment, new: ReplicaSet | None, old: tuple[ReplicaSet, ...], wished: int
) -> DeploymentPlan:
    surge, unavailable = budget(deployment)
    total = sum(map(_size, old)) + (_size(new) if new else 0)
    room = max(0, wished + surge - total)
    if new is None:
        size = min(room, wished)
        return DeploymentPlan(
            create=_replica_set(deployment, size), reasons=(f"new template: first {size} of {wished} pods",)
        )
    if _size(new) > wished:
        return DeploymentPlan(scale=((new.metadata.name, wished),), reasons=(f"scaled to {wished}",))
    if _size(new) < wished and room:
        size = min(wished, _size(new) + room)
        return DeploymentPlan(
            scale=((new.metadata.name, size),), reasons=(f"{size} of {wished} pods of the new template",)
        )
    return _shrink(new, old, wished - unavailable)


def _shrink(new: ReplicaSet, old: tuple[ReplicaSet, ...], least: int) -> DeploymentPlan:
    """Take old pods away, unavailable ones first, so that at least `least` stay available."""
    sizes = {rs.metadata.name: _size(rs) for rs in old}
    available = {rs.metadata.name: min(rs.status.available_replicas, _size(rs)) for rs in old}
    new_available = min(new.status.available_replicas, _size(new))
    pending_new = _size(new) - new_available
    spare = sum(sizes.values()) + _size(new) - least - pending_new
    for rs in old:
        name = rs.metadata.name
        taken = max(0, min(spare, sizes[name] - available[name]))
        sizes[name] -= taken
        spare -= taken
    surplus = min(spare, sum(available.values()) + new_available - least)
    for rs in old:
        name = rs.metadata.name
        taken = max(0, min(surplus, sizes[name]))
        sizes[name] -= taken
        surplus -= taken
    scale = tuple(
        (rs.metadata.name, sizes[rs.metadata.name]) for rs in old if sizes[rs.metadata.name] != _size(rs)
    )
    return DeploymentPlan(
        scale=scale, reasons=tuple(f"{name} of an older template to {size}" for name, size in scale)
    )


def _recreate(
    deployment: Deployment, new: ReplicaSet | None, old: tuple[ReplicaSet, ...], wished: int
) -> DeploymentPlan:
    scale = tuple((rs.metadata.name, 0) for rs in old if _size(rs))
    if scale:
        return DeploymentPlan(scale=scale, reasons=("all old pods end before new ones start",))
    if any(rs.status.replicas for rs in old):
        return DeploymentPlan(reasons=("waiting for the old pods to end",))
    if new is None:
        return DeploymentPlan(create=_replica_set(deployment, wished), reasons=("new template",))
    if _size(new) != wished:
        return DeploymentPlan(scale=((new.metadata.name, wished),), reasons=(f"scaled to {wished}",))
    return DeploymentPlan()


def _paused(new: ReplicaSet | None, old: tuple[ReplicaSet, ...], wished: int) -> DeploymentPlan:
    active = [rs for rs in (*old, *((new,) if new else ())) if _size(rs)]
    if len(active) == 1 and _size(active[0]) != wished:
        return DeploymentPlan(scale=((active[0].metadata.name, wished),), reasons=(f"scaled to {wished}",))
    return DeploymentPlan(reasons=("paused",))


def _replica_set(deployment: Deployment, size: int) -> ReplicaSet:
    meta, spec, label = deployment.metadata, deployment.spec, {HASH_LABEL: template_hash(deployment)}
    template_meta = msgspec.structs.replace(
        spec.template.metadata, labels=spec.template.metadata.labels | label
    )
    return ReplicaSet(
        metadata=ObjectMeta(
            name=f"{meta.name}-{label[HASH_LABEL]}",
            namespace=meta.namespace,
            labels=spec.template.metadata.labels | label,
            owner_references=(
                OwnerReference(
                    api_version=deployment.api_version,
                    kind=deployment.kind,
                    name=meta.name,
                    uid=meta.uid,
                    controller=True,
                    block_owner_deletion=True,
                ),
            ),
        ),
        spec=ReplicaSetSpec(
            replicas=size,
            min_ready_seconds=spec.min_ready_seconds,
            selector=LabelSelector(
                match_labels=spec.selector.match_labels | label,
                match_expressions=spec.selector.match_expressions,
            ),
            template=msgspec.structs.replace(spec.template, metadata=template_meta),
        ),
    )


def _revision(replica_set: ReplicaSet) -> int:
    text = replica_set.metadata.annotations.get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def _next_revision(new: ReplicaSet | None, old: tuple[ReplicaSet, ...]) -> str:
    newest_old = max(map(_revision, old), default=0)
    return str(_revision(new)) if new is not None and _revision(new) > newest_old else str(newest_old + 1)


def _outdated(deployment: Deployment, old: tuple[ReplicaSet, ...]) -> tuple[str, ...]:
    limit = deployment.spec.revision_history_limit
    empty = [
        rs
        for rs in old
        if not _size(rs) and not rs.status.replicas and rs.metadata.deletion_timestamp is None
    ]
    surplus = len(empty) - (DEFAULT_HISTORY if limit is None else limit)
    return tuple(rs.metadata.name for rs in empty[: max(0, surplus)])


def _status(
    deployment: Deployment,
    new: ReplicaSet | None,
    replica_sets: tuple[ReplicaSet, ...],
    step: DeploymentPlan,
    now: float,
) -> tuple[DeploymentStatus, float | None]:
    wished = replicas_of(deployment)
    available = sum(rs.status.available_replicas for rs in replica_sets)
    counted = DeploymentStatus(
        observed_generation=deployment.metadata.generation,
        replicas=sum(rs.status.replicas for rs in replica_sets),
        updated_replicas=new.status.replicas if new else 0,
        ready_replicas=sum(rs.status.ready_replicas for rs in replica_sets),
        available_replicas=available,
        unavailable_replicas=max(0, wished - available),
    )
    progressing, again_s = _progressing(deployment, counted, step, now)
    enough = available >= wished - budget(deployment)[1]
    text = "has" if enough else "does not have"
    available_condition = Condition(
        type="Available",
        status="True" if enough else "False",
        reason="MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        message=f"Deployment {text} minimum availability.",
    )
    conditions = tuple(
        _stamped(condition, deployment.status.conditions, now)
        for condition in (available_condition, progressing)
    )
    return msgspec.structs.replace(counted, conditions=conditions), again_s


def _progressing(
    deployment: Deployment, counted: DeploymentStatus, step: DeploymentPlan, now: float
) -> tuple[Condition, float | None]:
    wished, before = replicas_of(deployment), deployment.status
    known = next((c for c in before.conditions if c.type == "Progressing"), None)
    if (
        counted.updated_replicas == counted.replicas == counted.available_replicas == wished
        and not step.create
    ):
        message = f'Deployment "{deployment.metadata.name}" has successfully progressed.'
        return Condition(
            type="Progressing", status="True", reason="NewReplicaSetAvailable", message=message
        ), None
    moved = (
        known is None
        or step.create is not None
        or bool(step.scale)
        or before.observed_generation != deployment.metadata.generation
        or counted.updated_replicas > before.updated_replicas
        or counted.ready_replicas > before.ready_replicas
        or counted.available_replicas > before.available_replicas
        or known.reason == "NewReplicaSetAvailable"
    )
    limit_s = deployment.spec.progress_deadline_seconds or DEFAULT_PROGRESS_DEADLINE_S
    since = now if moved or known is None else parse_rfc3339(known.last_update_time or rfc3339(now))
    if now - since > limit_s:
        message = f'Deployment "{deployment.metadata.name}" has timed out progressing.'
        late = Condition(
            type="Progressing", status="False", reason="ProgressDeadlineExceeded", message=message
        )
        return msgspec.structs.replace(late, last_update_time=rfc3339(since)), None
    message = f'Deployment "{deployment.metadata.name}" is progressing.'
    going = Condition(
        type="Progressing",
        status="True",
        reason="ReplicaSetUpdated",
        message=message,
        last_update_time=rfc3339(since),
    )
    return going, since + limit_s - now + 1


def _stamped(condition: Condition, before: tuple[Condition, ...], now: float) -> Condition:
    """The condition with its times: transition when the status changed, update when anything did."""
    known = next((c for c in before if c.type == condition.type), None)
    same = known is not None and (known.status, known.reason, known.message) == (
        condition.status,
        condition.reason,
        condition.message,
    )
    updated = condition.last_update_time or (known.last_update_time if known and same else rfc3339(now))
    turned = known.last_transition_time if known and known.status == condition.status else rfc3339(now)
    return msgspec.structs.replace(condition, last_update_time=updated, last_transition_time=turned)
