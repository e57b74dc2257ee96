"""Which Deployments do the canaries of `spec.canary` ask for, and what share may each get?

KServe's Standard mode: each entry has a Deployment `{service}-{name}-predictor` of its own, of the stable predictor deep-merged with
the entry, with a fixed number of pods. It gets its share while one of them is available. An entry that is dropped while the stable
predictor takes its fields over is promoted: its Deployment becomes the stable one, and no pod starts again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from penstock.decide.deployment import replicas_of
from penstock.decide.revision import IDLE_SINCE, TEMPLATE_HASH, is_ready, new_revision
from penstock.decide.rollout import DRAIN_S, is_stopped, minimum_of
from penstock.decide.workload import Workload
from penstock.kit.hashing import short_hash
from penstock.kit.patch import strategic_merge
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.pod import PodTemplateSpec
from penstock.resources.serving import (
    FRAMEWORKS,
    CanarySpec,
    CanaryStatus,
    Component,
    ComponentStatus,
    InferenceService,
    PredictorSpec,
    TrafficTarget,
)
from penstock.resources.workload import Deployment

CANARY_LABEL = "penstock.dev/canary"
UNSCALED = ("max_replicas", "scale_target", "scale_metric", "scale_metric_type", "auto_scaling")


@dataclass(frozen=True, slots=True)
class Canaries:
    """What to do about the canaries' Deployments, and what is true of them now.

    `adopt` names those that become revisions of the stable predictor: they lose the label of a canary. `shares` are those that
    may get requests; `ready_replicas` is how many of the stable predictor's pods they stand in for.
    """

    create: tuple[Deployment, ...] = ()
    replace: tuple[Deployment, ...] = ()
    scale: tuple[tuple[str, int], ...] = ()
    mark_idle: tuple[tuple[str, str | None], ...] = ()
    adopt: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    shares: tuple[TrafficTarget, ...] = ()
    statuses: tuple[CanaryStatus, ...] = ()
    ready_replicas: int = 0
    again_s: float | None = None
    reasons: tuple[str, ...] = ()


def canary_service(service: InferenceService, canary: CanarySpec) -> InferenceService:
    """The service as if the canary were its predictor: the stable one with the entry laid over it."""
    override = msgspec.to_builtins(canary.predictor)
    for name in FRAMEWORKS:
        if name in override:
            override["model"] = {**override.get("model", {}), **override.pop(name)}
    merged = strategic_merge(msgspec.to_builtins(service.spec.predictor), override)
    predictor = msgspec.structs.replace(
        msgspec.convert(merged, PredictorSpec), **dict.fromkeys(UNSCALED), canary_traffic_percent=None
    )
    return msgspec.structs.replace(
        service, spec=msgspec.structs.replace(service.spec, predictor=predictor, canary=())
    )


def plan_canaries(
    service: InferenceService,
    workloads: Mapping[str, Workload],
    stable: PodTemplateSpec | None,
    deployments: Iterable[Deployment],
    now: float,
) -> Canaries:
    """`workloads` are keyed by the canaries' names, `stable` is the stable predictor's template; `deployments` are its and theirs."""
    by_name = {deployment.metadata.name: deployment for deployment in deployments}
    labelled = {d.metadata.name: d for d in by_name.values() if CANARY_LABEL in d.metadata.labels}
    if is_stopped(service):
        return Canaries(delete=tuple(labelled))
    parts, wished = [], set()
    for canary in service.spec.canary:
        name = f"{service.metadata.name}-{canary.predictor.name}-predictor"
        wished.add(name)
        workload = workloads[canary.predictor.name or ""]
        if name in by_name and name not in labelled:
            parts.append(_refused(canary, f"{name} is a revision of the stable predictor"))
        elif workload.template is None:
            parts.append(_refused(canary, workload.failure, by_name.get(name)))
        else:
            parts.append(_entry(service, canary, name, workload.template, by_name.get(name)))
    kept = short_hash(stable) if stable is not None else ""
    for name, deployment in labelled.items():
        if name not in wished:
            parts.append(_dropped(service, deployment, kept, _serving_size(service, by_name), now))
    return _all(parts)


def lowered(component: Component, ready_replicas: int) -> Component:
    """The stable predictor while canaries stand in for some of its pods: never below one."""
    if not ready_replicas:
        return component
    return msgspec.structs.replace(component, min_replicas=max(1, minimum_of(component) - ready_replicas))


def with_shares(status: ComponentStatus, shares: tuple[TrafficTarget, ...]) -> ComponentStatus:
    """The predictor's status where canaries take their shares off its revisions; before any of those serves, nobody does."""
    if not shares or not status.traffic:
        return status
    left = 100 - sum(share.percent or 0 for share in shares)
    first, *others = status.traffic
    rest = [msgspec.structs.replace(target, percent=(target.percent or 0) * left // 100) for target in others]
    remainder = left - sum(target.percent or 0 for target in rest)
    return msgspec.structs.replace(
        status, traffic=(msgspec.structs.replace(first, percent=remainder), *rest, *shares)
    )


def _entry(
    service: InferenceService,
    canary: CanarySpec,
    name: str,
    template: PodTemplateSpec,
    present: Deployment | None,
) -> Canaries:
    """One entry whose pods can be made."""
    own, size = canary.predictor.name or "", _size(service, canary)
    predictor = canary_service(service, canary).spec.predictor
    made = new_revision(service, "predictor", predictor, template, name, size)
    labels = {**made.metadata.labels, CANARY_LABEL: own}
    made = msgspec.structs.replace(made, metadata=msgspec.structs.replace(made.metadata, labels=labels))
    if present is None:
        return Canaries(create=(made,), statuses=(_status(canary, ready=False),), reasons=(f"canary {own}",))
    if present.metadata.labels.get(TEMPLATE_HASH) != labels[TEMPLATE_HASH]:
        meta = msgspec.structs.replace(
            present.metadata,
            labels=labels,
            annotations=present.metadata.annotations | made.metadata.annotations,
        )
        changed = msgspec.structs.replace(present, metadata=meta, spec=made.spec)
        return replace(_present(canary, present), replace=(changed,), reasons=(f"canary {own} changes",))
    return replace(
        _present(canary, present),
        scale=((name, size),) if replicas_of(present) != size else (),
        mark_idle=((name, None),) if IDLE_SINCE in present.metadata.annotations else (),
    )


def _present(canary: CanarySpec, deployment: Deployment) -> Canaries:
    """What a canary that exists may get, and is: any pod that answers is enough for its share."""
    available = deployment.status.available_replicas
    share = TrafficTarget(
        revision_name=deployment.metadata.name,
        percent=canary.traffic_percent,
        latest_revision=False,
        tag=canary.predictor.name or "",
    )
    return Canaries(
        shares=(share,) if available else (),
        statuses=(_status(canary, ready=is_ready(deployment)),),
        ready_replicas=available,
    )


def _size(service: InferenceService, canary: CanarySpec) -> int:
    """As many pods as the entry says, else its share of the stable predictor's least."""
    own = canary.predictor.min_replicas
    return own if own is not None else -(-minimum_of(service.spec.predictor) * canary.traffic_percent // 100)


def _status(canary: CanarySpec, *, ready: bool) -> CanaryStatus:
    return CanaryStatus(name=canary.predictor.name or "", traffic_percent=canary.traffic_percent, ready=ready)


def _refused(canary: CanarySpec, why: str, present: Deployment | None = None) -> Canaries:
    """An entry whose pods cannot be made: what runs of it stays."""
    known = Canaries(statuses=(_status(canary, ready=False),))
    if present is not None:
        known = _present(canary, present)
    return replace(known, reasons=(f"no new pods for canary {canary.predictor.name}: {why}",))


def _dropped(
    service: InferenceService, deployment: Deployment, stable: str, serving_size: int, now: float
) -> Canaries:
    """A canary that has no entry any more: promoted to the stable one's size, or drained and deleted."""
    name, size = deployment.metadata.name, replicas_of(deployment)
    if deployment.metadata.labels.get(TEMPLATE_HASH) == stable:
        grows = ((name, serving_size),) if serving_size > size else ()
        return Canaries(adopt=(name,), scale=grows, reasons=(f"{name} is promoted",))
    since = deployment.metadata.annotations.get(IDLE_SINCE)
    if since is None:
        return Canaries(mark_idle=((name, rfc3339(now)),), again_s=DRAIN_S)
    left_s = parse_rfc3339(since) + DRAIN_S - now
    if left_s > 0:
        return Canaries(again_s=left_s)
    return Canaries(delete=(name,), reasons=(f"{name} goes, {service.metadata.name} has no such canary",))


def _serving_size(service: InferenceService, by_name: Mapping[str, Deployment]) -> int:
    """How many pods the stable predictor has now."""
    status = service.status.components.get("predictor", ComponentStatus())
    serving = by_name.get(status.latest_ready_revision)
    return replicas_of(serving) if serving is not None else 0


def _all(parts: list[Canaries]) -> Canaries:
    return Canaries(
        create=tuple(one for part in parts for one in part.create),
        replace=tuple(one for part in parts for one in part.replace),
        scale=tuple(one for part in parts for one in part.scale),
        mark_idle=tuple(one for part in parts for one in part.mark_idle),
        adopt=tuple(one for part in parts for one in part.adopt),
        delete=tuple(one for part in parts for one in part.delete),
        shares=tuple(one for part in parts for one in part.shares),
        statuses=tuple(one for part in parts for one in part.statuses),
        ready_replicas=sum(part.ready_replicas for part in parts),
        again_s=min((part.again_s for part in parts if part.again_s is not None), default=None),
        reasons=tuple(one for part in parts for one in part.reasons),
    )
