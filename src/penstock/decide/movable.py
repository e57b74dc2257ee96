"""May this unit be moved while it works, in which way, and what does that cost?

A server moves without a gap: another is started beside it first. It must be one of a ReplicaSet all of whose pods are ready, so that never fewer
serve than before. Training moves by its checkpoint contract: it is told, saves, ends, and goes on elsewhere; where it does not save when it is
told, only just after it saved. Whatever else would lose work, or would not be made anew, stays. So does what says so in the words of Karpenter
or Cluster Autoscaler, and what came a short while ago.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from penstock.decide.gang import gang_of
from penstock.decide.lost_work import Unit, job_of
from penstock.decide.replica_set import is_active, ready_since
from penstock.decide.spare_nodes import KEEPS
from penstock.resources.checkpoint import contract_of
from penstock.resources.pod import Pod
from penstock.resources.workload import ReplicaSet

REST_S = 600.0
"""How long a unit is let be after it started, wherever it came from: nothing is moved again and again."""
FRESH_S = 60.0
"""How old the last checkpoint may be of a unit that does not save when it is told."""
Way = Literal["Surge", "Checkpoint"]
"""Surge: a successor serves before it goes. Checkpoint: it saves, goes, and its successor goes on."""


class Movable(Struct, frozen=True):
    """`cost` in GPU-seconds: of a server what its successor takes to be ready, of training what is computed again."""

    unit: Unit
    way: Way
    cost: float


class Sets(Struct, frozen=True):
    """ReplicaSets by uid, and the pods of each."""

    by_uid: Mapping[str, ReplicaSet]
    pods: Mapping[str, Sequence[Pod]]


def sets_of(replica_sets: Sequence[ReplicaSet], pods: Sequence[Pod]) -> Sets:
    """`pods` are all that exist."""
    owned: dict[str, list[Pod]] = {}
    for pod in pods:
        owned.setdefault(set_of(pod), []).append(pod)
    return Sets({one.metadata.uid: one for one in replica_sets}, owned)


def set_of(pod: Pod) -> str:
    """The uid of the ReplicaSet that controls the pod, or ""."""
    owners = pod.metadata.owner_references
    return next((o.uid for o in owners if o.controller and o.kind == "ReplicaSet"), "")


def movable(unit: Unit, sets: Sets, now: float, usual_s: float | None) -> Movable | str:
    """How it would move, or why it stays. `usual_s` as for `Unit.cost`."""
    for pod in unit.pods:
        for key, value in KEEPS.items():
            if pod.metadata.annotations.get(key) == value:
                return f"it says {key}: {value}"
    if now - unit.started_at < REST_S:
        return f"it has run for {now - unit.started_at:.0f} s, and may be moved after {REST_S:.0f} s"
    first = unit.pods[0]
    if len(unit.pods) == 1 and set_of(first):
        return _surging(unit, sets, now, usual_s)
    if all(job_of(pod) and contract_of(pod.metadata) is not None for pod in unit.pods):
        return _saving(unit, now, usual_s)
    if gang_of(first) is not None and len(unit.pods) > 1:
        return "it is a gang that saves nothing"
    return "its work would be lost" if job_of(first) else "nothing would make it anew"


def _surging(unit: Unit, sets: Sets, now: float, usual_s: float | None) -> Movable | str:
    owner = sets.by_uid.get(set_of(unit.pods[0]))
    if owner is None:
        return "nothing would make it anew"
    wished = 1 if owner.spec.replicas is None else owner.spec.replicas
    active = [pod for pod in sets.pods.get(owner.metadata.uid, ()) if is_active(pod)]
    ready = sum(ready_since(pod) is not None for pod in active)
    if not ready == len(active) == wished:
        return f"{ready} of {wished} pods of {owner.metadata.name} are ready"
    return Movable(unit, "Surge", unit.cost(now, usual_s))


def _saving(unit: Unit, now: float, usual_s: float | None) -> Movable | str:
    if not unit.may_stop(now):
        return "it has not run for its least time yet"
    if not unit.reports:
        return "it has saved nothing yet"
    age_s = now - unit.since
    if unit.save_s is None and age_s > FRESH_S:
        return f"its checkpoint is {age_s:.0f} s old, and it does not save when it is told"
    return Movable(unit, "Checkpoint", unit.cost(now, usual_s))
