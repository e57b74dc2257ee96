"""Which ReplicaSets should this Deployment have now, and at which size?

Kubernetes' rolling update (apps/v1): up to `maxSurge` pods more and `maxUnavailable` fewer than wished; new pods first, then
old ones go as new ones become available. The available pods never fall below wished − maxUnavailable by our doing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from penstock.decide.deployment_status import deployment_status
from penstock.kit.hashing import short_hash
from penstock.resources.meta import IntOrString, LabelSelector, ObjectMeta, controlled_by
from penstock.resources.pod import PodTemplateSpec
from penstock.resources.workload import Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec

PREFIX = "deployment.kubernetes.io/"
REVISION = f"{PREFIX}revision"
DESIRED = f"{PREFIX}desired-replicas"
"""On each ReplicaSet: the Deployment's size when it was last looked at, which is how a paused rollout notices scaling."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
HASH_LABEL = "pod-template-hash"
DEFAULT_REPLICAS = 1
DEFAULT_HISTORY = 10
DEFAULT_BUDGET = "25%"


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """What to do next. `adjust` are merge patches by ReplicaSet name; `again_s` is when to look again without a change."""

    create: ReplicaSet | None = None
    scale: tuple[tuple[str, int], ...] = ()
    delete: tuple[str, ...] = ()
    adjust: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    revision: str = ""
    status: DeploymentStatus | None = None
    again_s: float | None = None
    reasons: tuple[str, ...] = ()

    @property
    def acts(self) -> bool:
        """Whether ReplicaSets change."""
        return bool(self.create or self.scale or self.delete or self.adjust)


def plan_deployment(
    deployment: Deployment, replica_sets: tuple[ReplicaSet, ...], now: float
) -> DeploymentPlan:
    """The next step towards the Deployment's template and size; `replica_sets` are those that it owns."""
    wished = replicas_of(deployment)
    new = current_replica_set(deployment, replica_sets)
    old = tuple(sorted((rs for rs in replica_sets if rs is not new), key=_revision))
    if deployment.spec.paused:
        step = _paused(deployment, new, old, wished)
    elif _strategy(deployment) == "Recreate":
        step = _recreate(deployment, new, old, wished)
    else:
        step = _rolling(deployment, new, old, wished)
    status, again_s = deployment_status(
        deployment,
        new,
        replica_sets,
        wished=wished,
        least=wished - budget(deployment)[1],
        moves=step.create is not None or bool(step.scale),
        now=now,
    )
    revision = _next_revision(new, old)
    return replace(
        step,
        create=_with_annotations(step.create, _inherited(deployment, revision)) if step.create else None,
        delete=_outdated(deployment, old),
        adjust=_adjustments(deployment, new, old, revision),
        revision=revision if new is not None or step.create is not None else "",
        status=status,
        again_s=again_s,
    )


def replicas_of(deployment: Deployment) -> int:
    """The wished number of pods."""
    return DEFAULT_REPLICAS if deployment.spec.replicas is None else deployment.spec.replicas


def current_replica_set(deployment: Deployment, replica_sets: tuple[ReplicaSet, ...]) -> ReplicaSet | None:
    """The oldest ReplicaSet of the Deployment's present template: going back to a template finds its ReplicaSet again."""
    wished = deployment.spec.template
    same = [rs for rs in replica_sets if _asks_the_same(rs.spec.template, wished)]
    return min(same, key=lambda rs: (rs.metadata.creation_timestamp or "", rs.metadata.name), default=None)


def template_hash(deployment: Deployment) -> str:
    """What names a template: the same pods have the same hash, until a foreign ReplicaSet has taken the name."""
    return short_hash([_essence(deployment.spec.template), deployment.status.collision_count or 0])


def budget(deployment: Deployment) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods: percentages are rounded up and down; never both zero (Kubernetes)."""
    if _strategy(deployment) == "Recreate":
        return 0, 0
    wished = replicas_of(deployment)
    rolling = deployment.spec.strategy.rolling_update if deployment.spec.strategy else None
    surge = _share(rolling.max_surge if rolling else None, wished, up=True)
    unavailable = _share(rolling.max_unavailable if rolling else None, wished, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, wished)


def _asks_the_same(present: PodTemplateSpec, wished: PodTemplateSpec) -> bool:
    """Two that are equal to the letter are most of them, and need no closer look."""
    return _unhashed(present) == _unhashed(wished) or _essence(present) == _essence(wished)


def _essence(template: PodTemplateSpec) -> Any:
    """What two templates that ask for the same have in common: clients write out empty fields, or leave them away."""
    return _without_empty(msgspec.to_builtins(_unhashed(template)))


def _unhashed(template: PodTemplateSpec) -> PodTemplateSpec:
    labels = {key: value for key, value in template.metadata.labels.items() if key != HASH_LABEL}
    meta = msgspec.structs.replace(template.metadata, labels=labels, creation_timestamp=None)
    return msgspec.structs.replace(template, metadata=meta)


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = ((key, _without_empty(item)) for key, item in value.items())
        return {key: item for key, item in kept if item not in (None, "", [], {})}
    return [_without_empty(item) for item in value] if isinstance(value, list | tuple) else value


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
    if not all(map(_is_empty, old)):
        return DeploymentPlan(reasons=("waiting for the old pods to end",))
    if new is None:
        return DeploymentPlan(create=_replica_set(deployment, wished), reasons=("new template",))
    if _size(new) != wished:
        return DeploymentPlan(scale=((new.metadata.name, wished),), reasons=(f"scaled to {wished}",))
    return DeploymentPlan()


def _paused(
    deployment: Deployment, new: ReplicaSet | None, old: tuple[ReplicaSet, ...], wished: int
) -> DeploymentPlan:
    """No rollout goes on, but scaling does: between several templates in proportion to their sizes, the surge included."""
    active = [rs for rs in (*old, *((new,) if new else ())) if _size(rs)] or ([new] if new else [])
    scaled = any(rs.metadata.annotations.get(DESIRED, str(wished)) != str(wished) for rs in active)
    surge, unavailable = budget(deployment)
    allowed = wished + surge if wished and len(active) > 1 else wished
    total = sum(map(_size, active))
    if not active or (len(active) > 1 and not scaled) or total == allowed:
        return DeploymentPlan(reasons=("paused",))
    shares = [allowed * _size(rs) // total if total else 0 for rs in active]
    shares[-1] += allowed - sum(shares)
    shares = _with_available(shares, [rs.status.available_replicas for rs in active], wished - unavailable)
    scale = tuple(
        (rs.metadata.name, share) for rs, share in zip(active, shares, strict=True) if share != _size(rs)
    )
    return DeploymentPlan(scale=scale, reasons=(f"scaled to {wished} while paused",))


def _with_available(shares: list[int], available: list[int], least: int) -> list[int]:
    """As many pods in all, but where fewer than `least` of them were available, those that are before those that are not."""
    lacking = least - sum(map(min, shares, available))
    more = [max(0, have - share) for share, have in zip(shares, available, strict=True)]
    fewer = [max(0, share - have) for share, have in zip(shares, available, strict=True)]
    moved = max(0, min(lacking, sum(more), sum(fewer)))
    gains, losses = _taken(more, moved), _taken(fewer, moved)
    return [share + gain - loss for share, gain, loss in zip(shares, gains, losses, strict=True)]


def _taken(from_: list[int], count: int) -> list[int]:
    """`count` in all, from the first on."""
    found = []
    for one in from_:
        found.append(min(one, count))
        count -= found[-1]
    return found


def _is_empty(replica_set: ReplicaSet) -> bool:
    """Whether no pod is left, not even one that is ending, and the counts are of this size."""
    meta, status = replica_set.metadata, replica_set.status
    counted = status.observed_generation >= meta.generation
    return counted and not (_size(replica_set) or status.replicas or status.terminating_replicas)


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
            owner_references=(controlled_by(deployment),),
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


def _with_annotations(replica_set: ReplicaSet, annotations: dict[str, str]) -> ReplicaSet:
    meta = msgspec.structs.replace(replica_set.metadata, annotations=annotations)
    return msgspec.structs.replace(replica_set, metadata=meta)


def _inherited(deployment: Deployment, revision: str) -> dict[str, str]:
    """The annotations of the current ReplicaSet: a rollback brings the Deployment's own back with its template."""
    own = {
        key: value
        for key, value in deployment.metadata.annotations.items()
        if key != LAST_APPLIED and not key.startswith(PREFIX)
    }
    return {**own, REVISION: revision, DESIRED: str(replicas_of(deployment))}


def _adjustments(
    deployment: Deployment, new: ReplicaSet | None, old: tuple[ReplicaSet, ...], revision: str
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Patches for what follows the Deployment beside the size."""
    desired = str(replicas_of(deployment))
    wanted = {rs.metadata.name: {DESIRED: desired} for rs in old if _size(rs)}
    if new is not None:
        wanted[new.metadata.name] = _inherited(deployment, revision)
    patches: dict[str, dict[str, Any]] = {}
    for rs in (*old, *((new,) if new else ())):
        have = rs.metadata.annotations
        changed = {
            key: value for key, value in wanted.get(rs.metadata.name, {}).items() if have.get(key) != value
        }
        if changed:
            patches.setdefault(rs.metadata.name, {})["metadata"] = {"annotations": changed}
    if new is not None and new.spec.min_ready_seconds != deployment.spec.min_ready_seconds:
        spec = {"minReadySeconds": deployment.spec.min_ready_seconds}
        patches.setdefault(new.metadata.name, {})["spec"] = spec
    return tuple(patches.items())


def _revision(replica_set: ReplicaSet) -> int:
    text = replica_set.metadata.annotations.get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def _next_revision(new: ReplicaSet | None, old: tuple[ReplicaSet, ...]) -> str:
    newest_old = max(map(_revision, old), default=0)
    return str(_revision(new)) if new is not None and _revision(new) > newest_old else str(newest_old + 1)


def _outdated(deployment: Deployment, old: tuple[ReplicaSet, ...]) -> tuple[str, ...]:
    limit = deployment.spec.revision_history_limit
    empty = [rs for rs in old if _is_empty(rs) and rs.metadata.deletion_timestamp is None]
    surplus = len(empty) - (DEFAULT_HISTORY if limit is None else limit)
    return tuple(rs.metadata.name for rs in empty[: max(0, surplus)])
