"""What should move now, by all that is known of the cluster?

Gathers for `defragment` who may move and who waits; says why nothing moves while something is under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from penstock.decide.defragment import Defragmentation, Scene, Waiting, defragment
from penstock.decide.gang import Member, Placer, gang_of, missing
from penstock.decide.lost_work import History, priority_of, units_of, usual_redo_s
from penstock.decide.movable import Movable, movable, sets_of
from penstock.decide.move_budget import Limits, Spent, allowance, recent_of
from penstock.decide.replica_set import is_active
from penstock.decide.unsettled import unsettled
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.pod import Pod
from penstock.resources.workload import ReplicaSet

PATIENCE_S = 30.0
"""A pod has waited for so long: whoever gives way to it, or ends by itself, has done so."""


def plan_round(
    pods: Sequence[Pod],
    replica_sets: Sequence[ReplicaSet],
    histories: Mapping[str, History],
    scene: Scene,
    limits: Limits,
    spent: Sequence[Spent],
    place: Placer,
    now: float,
    *,
    only_for_waiting: bool = False,
) -> Defragmentation:
    """`pods` are all that have not ended, `histories` those of Jobs by uid, `spent` is what was begun before.

    A pod that was to be moved within the hour and is still there is let be: it would fail again.
    """
    if busy := unsettled(pods, replica_sets, scene.requests, now):
        return Defragmentation(message=f"nothing moves while {busy}")
    waiting = who_waits(pods, scene, now)
    users = [pod for pod in pods if pod.spec.node_name and scene.requests.get(pod.metadata.uid)]
    units = units_of(users, now, histories)
    usual_s, sets = usual_redo_s(units, now), sets_of(replica_sets, pods)
    tried = {name for one in recent_of(spent, now) for name in one.pods}
    judged = {
        unit.name: movable(unit, sets, now, usual_s)
        if tried.isdisjoint(map(_name, unit.pods))
        else "its move was begun within the hour, and came to nothing"
        for unit in units
    }
    may = [found for found in judged.values() if isinstance(found, Movable)]
    left = allowance(limits, spent, now)
    found = defragment(scene, may, waiting, left, place, only_for_waiting=only_for_waiting)
    stay = tuple((name, why) for name, why in judged.items() if isinstance(why, str))
    named = {unit.name: _name(unit.pods[0]) for unit in units}
    return replace(found, kept=tuple((named.get(name, name), why) for name, why in (*found.kept, *stay)))


def who_waits(pods: Sequence[Pod], scene: Scene, now: float) -> list[Waiting]:
    """Pods that ask for devices and have found no room for a while, in their turn; those of a gang together, once all of them are there."""
    groups: dict[str, list[Pod]] = {}
    for pod in sorted((pod for pod in pods if _has_waited(pod, now)), key=_turn):
        gang = gang_of(pod)
        groups.setdefault(str(gang[:2]) if gang and gang.size > 1 else pod.metadata.uid, []).append(pod)
    found = []
    for group in groups.values():
        first, gang = group[0], gang_of(group[0])
        members = []
        for pod in group:
            wanted = scene.requests.get(pod.metadata.uid, ())
            if wanted and not isinstance(wanted, str):
                members.append(Member(pod, wanted))
        there = [pod for pod in pods if gang is not None and gang_of(pod) == gang and is_active(pod)]
        if len(members) < len(group) or (gang is not None and missing(gang, len(there))):
            continue
        name = _name(first)
        found.append(Waiting(name if len(group) == 1 else f"gang {name}", tuple(members)))
    return found


def _name(pod: Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def _has_waited(pod: Pod, now: float) -> bool:
    if pod.spec.node_name or not is_active(pod):
        return False
    told = next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
    if told is None or told.status != "False" or told.reason != "Unschedulable":
        return False
    since = pod.metadata.creation_timestamp
    return since is not None and now - parse_rfc3339(since) >= PATIENCE_S


def _turn(pod: Pod) -> tuple[int, str, str]:
    return -priority_of(pod), pod.metadata.creation_timestamp or "", pod.metadata.name
