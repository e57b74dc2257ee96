"""What is under way among the pods that use GPUs, so that nothing should be moved on top of it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from penstock.contracts.devices import DeviceRequest
from penstock.decide.movable import set_of
from penstock.decide.replica_set import ready_since
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.checkpoint import NOTICE
from penstock.resources.moving import MOVE
from penstock.resources.pod import Pod
from penstock.resources.workload import ReplicaSet

STARTING_S = 600.0
"""For so long a pod that is not ready counts as starting; after that it is broken, and holds up nobody."""


def unsettled(
    pods: Iterable[Pod],
    replica_sets: Iterable[ReplicaSet],
    requests: Mapping[str, tuple[DeviceRequest, ...] | str],
    now: float,
) -> str:
    """The first thing that is, or "". `pods` are all that have not ended; `requests` are what they ask for, by uid."""
    sets: set[str] = set()
    for pod in pods:
        name = f"{pod.metadata.namespace}/{pod.metadata.name}"
        if MOVE in pod.metadata.annotations:
            return f"{name} is being moved"
        if NOTICE in pod.metadata.annotations:
            return f"{name} gives way"
        if not requests.get(pod.metadata.uid):
            continue
        sets.add(set_of(pod))
        if pod.metadata.deletion_timestamp is not None:
            return f"{name} is ending"
        if not pod.spec.node_name:
            if not pod.spec.scheduling_gates and not _was_looked_at(pod):
                return f"{name} has not been placed yet"
        elif set_of(pod) and ready_since(pod) is None and _age_s(pod, now) < STARTING_S:
            return f"{name} is starting"
    rolling = Counter(
        (one.metadata.namespace, owner.name)
        for one in replica_sets
        if one.metadata.uid in sets and one.spec.replicas != 0
        for owner in one.metadata.owner_references
        if owner.controller and owner.kind == "Deployment"
    )
    for (namespace, name), count in rolling.items():
        if count > 1:
            return f"{namespace}/{name} is being rolled out"
    return ""


def _was_looked_at(pod: Pod) -> bool:
    return any(c.type == "PodScheduled" for c in pod.status.conditions)


def _age_s(pod: Pod, now: float) -> float:
    began = pod.status.start_time or pod.metadata.creation_timestamp
    return now - parse_rfc3339(began) if began else 0.0
