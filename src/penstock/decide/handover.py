"""The new revision has no room while the old one holds the devices: does the old one give way, and when is it taken back?

Where there is no room for one pod more, the old revision gives up pod after pod, its last one too: it sleeps, and the gateway holds
its requests while the new one starts. If that fails or takes longer than the progress deadline, the old one is woken again. Where both
shall serve beside each other (a canary's percent, a rollout policy), nobody gives way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from penstock.decide.deployment import replicas_of
from penstock.decide.inventory import take_stock
from penstock.decide.placement import place
from penstock.decide.replica_set import is_active, ready_since
from penstock.decide.revision import PROGRESS_DEADLINE_S, REVISION_LABEL
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.core import Node
from penstock.resources.pod import Pod
from penstock.resources.serving import ComponentStatus, InferenceService
from penstock.resources.validate_rollout import HANDOVER
from penstock.resources.workload import Deployment

NEVER = "Never"
ASLEEP_FOR = "penstock.dev/asleep-for"
"""On the old revision's Deployment: for whom it gives way. Whoever else sets sizes leaves it alone meanwhile."""
SIZE_BEFORE = "penstock.dev/handover-size-before"
SINCE = "penstock.dev/handover-since"
"""On the new revision's Deployment: when the old one gave up a pod last."""
FAILED = "penstock.dev/handover-failed"
"""On the new revision's Deployment: why the old one was woken again. It holds until the template changes."""
GRACE_S = 10.0
"""A pod has had no room for so long: those that were going are gone."""
MAX_RESTARTS = 2
HOPELESS = ("ErrImageNeverPull", "CreateContainerError", "CreateContainerConfigError", "InvalidImageName")

Event = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Room:
    """What there is to run on: the nodes, and every pod of the cluster."""

    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()


@dataclass(frozen=True, slots=True)
class Handover:
    """What to do now: new sizes, and annotations (revision, key, value) to write or, with None, to take away.

    `held` keep the size that they have here, `failed` get no traffic, `enough` may serve with whatever pods they have.
    """

    scale: tuple[tuple[str, int], ...] = ()
    annotate: tuple[tuple[str, str, str | None], ...] = ()
    held: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    enough: frozenset[str] = frozenset()
    event: Event | None = None
    again_s: float | None = None


def plan_handover(
    service: InferenceService,
    status: ComponentStatus,
    deployments: Iterable[Deployment],
    room: Room,
    now: float,
    *,
    alone: bool,
) -> Handover:
    """`alone` says that the newest revision shall have everything as soon as it is ready."""
    by_name = {deployment.metadata.name: deployment for deployment in deployments}
    newest = by_name.get(status.latest_created_revision)
    old = by_name.get(status.latest_rolledout_revision)
    stale = tuple(
        (name, FAILED, None)
        for name, deployment in by_name.items()
        if FAILED in deployment.metadata.annotations and deployment is not newest
    )
    giver = next((d for d in by_name.values() if ASLEEP_FOR in d.metadata.annotations), None)
    wanted = alone and service.metadata.annotations.get(HANDOVER) != NEVER
    if newest is None or old is None:
        answer = Handover()
    elif giver is not None and giver is not old:
        answer = Handover(annotate=_released(giver))
    elif giver is not None and (newest is old or not wanted):
        answer = _woken(giver, f"{giver.metadata.name} has its pods again: nobody is to take over")
    elif newest is old:
        answer = Handover()
    elif FAILED in newest.metadata.annotations:
        answer = Handover(failed=frozenset({newest.metadata.name}))
    elif giver is None:
        answer = _begun(newest, old, room, now) if wanted else Handover()
    else:
        answer = _under_way(newest, old, room, now)
    return replace(answer, annotate=(*answer.annotate, *stale))


def is_in_handover(deployment: Deployment) -> bool:
    """Whether a handover has left a mark on the revision."""
    return not {ASLEEP_FOR, FAILED}.isdisjoint(deployment.metadata.annotations)


def _begun(newest: Deployment, old: Deployment, room: Room, now: float) -> Handover:
    """The old one gives way if the new one has had no room for a while, and would have it then."""
    if not replicas_of(old):
        return Handover()
    return _given_up(newest, old, room, now, replicas_of(old))


def _under_way(newest: Deployment, old: Deployment, room: Room, now: float) -> Handover:
    own = _pods_of(newest, room)
    why = _failure(newest, own, now)
    if why:
        name = newest.metadata.name
        woken = _woken(old, f"{name} failed, {old.metadata.name} has its pods again: {why}")
        return replace(
            woken,
            scale=((name, 0), *woken.scale),
            annotate=((name, FAILED, why), (name, SINCE, None), *woken.annotate),
            failed=frozenset({name}),
            event=("Warning", "HandoverFailed", woken.event[2]) if woken.event else None,
        )
    held = Handover(held=frozenset({old.metadata.name}), again_s=GRACE_S)
    if newest.status.available_replicas and replicas_of(old) <= 1:
        return replace(held, enough=frozenset({newest.metadata.name}))
    if not replicas_of(old) or any(pod.spec.node_name and ready_since(pod) is None for pod in own):
        return held
    size = int(old.metadata.annotations.get(SIZE_BEFORE, "1"))
    given = _given_up(newest, old, room, now, size)
    return given if given.scale else held


def _given_up(newest: Deployment, old: Deployment, room: Room, now: float, size_before: int) -> Handover:
    """One pod less of the old revision, where that helps."""
    waiting = [pod for pod in _pods_of(newest, room) if _has_no_room(pod)]
    if not waiting:
        return Handover()
    began = newest.metadata.annotations.get(SINCE) or _unplaced_since(waiting[0])
    left_s = (parse_rfc3339(began) if began else now) + GRACE_S - now
    if left_s > 0:
        return Handover(again_s=left_s)
    placed = tuple(pod for pod in room.pods if pod.spec.node_name and is_active(pod))
    stock = take_stock(room.nodes, placed)
    without_old = stock.without(pod for pod in placed if _belongs(pod, old))
    if place(waiting[0], stock).node or not place(waiting[0], without_old).node:
        return Handover()
    size, name = replicas_of(old) - 1, old.metadata.name
    told = (
        f"{newest.metadata.name} has no room beside {name}, which goes to {size} pods"
        f"{'' if size else ': it sleeps, and its requests wait'}"
    )
    return Handover(
        scale=((name, size),),
        annotate=(
            (name, ASLEEP_FOR, newest.metadata.name),
            (name, SIZE_BEFORE, str(size_before)),
            (newest.metadata.name, SINCE, rfc3339(now)),
        ),
        held=frozenset({name}),
        event=("Normal", "HandoverStarted", told),
        again_s=GRACE_S,
    )


def _woken(old: Deployment, told: str) -> Handover:
    size = int(old.metadata.annotations.get(SIZE_BEFORE, "1"))
    return Handover(
        scale=((old.metadata.name, size),),
        annotate=_released(old),
        held=frozenset({old.metadata.name}),
        event=("Normal", "HandoverEnded", told),
    )


def _released(giver: Deployment) -> tuple[tuple[str, str, str | None], ...]:
    return (giver.metadata.name, ASLEEP_FOR, None), (giver.metadata.name, SIZE_BEFORE, None)


def hopeless(pods: Iterable[Pod]) -> str:
    """Why a container of these pods will not run, however often it is started again; "" while it may."""
    for pod in pods:
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
            waiting = status.state.waiting
            reason = waiting.reason if waiting is not None else ""
            if reason in HOPELESS or (reason == "CrashLoopBackOff" and status.restart_count >= MAX_RESTARTS):
                said = f": {waiting.message}" if waiting is not None and waiting.message else ""
                return f"container {status.name}: {reason}{said}"
    return ""


def _failure(newest: Deployment, own: list[Pod], now: float) -> str:
    """Why the new revision will not serve, "" while it may."""
    if why := hopeless(own):
        return why
    since = newest.metadata.annotations.get(SINCE)
    limit_s = newest.spec.progress_deadline_seconds or PROGRESS_DEADLINE_S
    late = (
        since is not None and now >= parse_rfc3339(since) + limit_s and not newest.status.available_replicas
    )
    return f"it was not ready within {limit_s} s" if late else ""


def _pods_of(revision: Deployment, room: Room) -> list[Pod]:
    return [pod for pod in room.pods if _belongs(pod, revision) and is_active(pod)]


def _belongs(pod: Pod, revision: Deployment) -> bool:
    return (pod.metadata.namespace, pod.metadata.labels.get(REVISION_LABEL)) == (
        revision.metadata.namespace,
        revision.metadata.name,
    )


def _has_no_room(pod: Pod) -> bool:
    return not pod.spec.node_name and any(
        c.type == "PodScheduled" and c.status == "False" and c.reason == "Unschedulable"
        for c in pod.status.conditions
    )


def _unplaced_since(pod: Pod) -> str:
    found = next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
    return (found.last_transition_time or "") if found is not None else ""
