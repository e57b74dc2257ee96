"""Which pods should this ReplicaSet add or remove, and what is its state?

Removal order is Kubernetes': unassigned, then pending, then not ready, then by deletion cost,
then those ready for the shortest time, then those that restarted most, then newest.

A pod that is being moved (`resources/moving.py`) does not count as one of those that are wished, so that another is made beside it; it is ended by
whoever moves it.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.conditions import dated
from penstock.resources.meta import Condition, ObjectMeta, controlled_by
from penstock.resources.moving import is_moving, leaning_to, moving_of
from penstock.resources.pod import Pod
from penstock.resources.workload import ReplicaSet, ReplicaSetStatus

MAX_STEP = 500
"""Pods that are created or deleted in one go (Kubernetes' burst)."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass(frozen=True, slots=True)
class ReplicaSetPlan:
    """`create` pods to add, names of pods to `delete`, the counted `status`; `again_s` until a pod becomes available.

    New pods would rather run on the node `near`: one that is moved there needs a successor. "" for none.
    """

    create: int
    delete: tuple[str, ...]
    status: ReplicaSetStatus
    again_s: float | None = None
    near: str = ""


def plan_replica_set(replica_set: ReplicaSet, pods: tuple[Pod, ...], now: float) -> ReplicaSetPlan:
    """`pods` are those that the ReplicaSet owns, in any state."""
    active = tuple(pod for pod in pods if is_active(pod))
    wished = 1 if replica_set.spec.replicas is None else replica_set.spec.replicas
    moving = {pod.metadata.name: mark for pod in active if is_moving(pod, now) and (mark := moving_of(pod))}
    staying = [pod for pod in active if pod.metadata.name not in moving]
    if replica_set.metadata.deletion_timestamp is not None:
        wished = len(staying)
    missing = wished - len(staying)
    surplus = sorted(staying, key=lambda pod: _keep_rank(pod, now))[: min(MAX_STEP, max(0, -missing))]
    min_ready_s = replica_set.spec.min_ready_seconds or 0
    waits = [wait for pod in active if (wait := _until_available(pod, min_ready_s, now)) is not None]
    lapses = [mark.until - now for mark in moving.values()]
    status = ReplicaSetStatus(
        observed_generation=replica_set.metadata.generation,
        replicas=len(active),
        fully_labeled_replicas=len(active),
        ready_replicas=len(waits),
        available_replicas=sum(wait <= 0 for wait in waits),
        terminating_replicas=sum(not is_ended(pod) for pod in pods) - len(active),
    )
    return ReplicaSetPlan(
        create=min(MAX_STEP, max(0, missing)),
        delete=tuple(pod.metadata.name for pod in surplus),
        status=status,
        again_s=min((wait for wait in (*waits, *lapses) if wait > 0), default=None),
        near=next((mark.to for mark in moving.values()), ""),
    )


def pod_of(replica_set: ReplicaSet, near: str = "") -> Pod:
    """A new pod of the ReplicaSet's template, which would rather run on the node `near`; the cluster completes its name."""
    meta, template = replica_set.metadata, replica_set.spec.template
    pod = Pod(
        metadata=ObjectMeta(
            generate_name=f"{meta.name}-",
            namespace=meta.namespace,
            labels=template.metadata.labels,
            annotations=template.metadata.annotations,
            finalizers=template.metadata.finalizers,
            owner_references=(controlled_by(replica_set),),
        ),
        spec=template.spec,
    )
    return leaning_to(pod, near) if near else pod


def is_active(pod: Pod) -> bool:
    """Whether the pod still counts: neither ended nor ending."""
    return pod.metadata.deletion_timestamp is None and not is_ended(pod)


def is_ended(pod: Pod) -> bool:
    """Whether none of the pod's processes will run again."""
    return pod.status.phase in ("Succeeded", "Failed")


def failed_to_create(replica_set: ReplicaSet, message: str, now: float) -> Condition:
    """What the status says of pods that could not be made."""
    failure = Condition(type="ReplicaFailure", status="True", reason="FailedCreate", message=message)
    return dated(failure, replica_set.status.conditions, now)


def ready_since(pod: Pod) -> float | None:
    """When the pod became ready, or None while it is not."""
    for condition in pod.status.conditions:
        if condition.type == "Ready" and condition.status == "True":
            return parse_rfc3339(condition.last_transition_time) if condition.last_transition_time else 0.0
    return None


def _until_available(pod: Pod, min_ready_s: int, now: float) -> float | None:
    since = ready_since(pod)
    return None if since is None else since + min_ready_s - now if min_ready_s else 0.0


def _keep_rank(pod: Pod, now: float) -> tuple[bool, int, bool, int, float, int, float, str]:
    """Lowest goes first."""
    since = ready_since(pod)
    cost = pod.metadata.annotations.get(DELETION_COST, "0")
    created = pod.metadata.creation_timestamp
    return (
        bool(pod.spec.node_name),
        {"Pending": 0, "Unknown": 1}.get(pod.status.phase or "Pending", 2),
        since is not None,
        int(cost) if cost.removeprefix("-").isdecimal() else 0,
        now - since if since is not None else 0.0,
        -sum(status.restart_count for status in pod.status.container_statuses),
        now - parse_rfc3339(created) if created else 0.0,
        pod.metadata.name,
    )
