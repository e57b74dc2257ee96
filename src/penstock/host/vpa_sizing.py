"""Gives pods the size that a vertical autoscaler recommends, as they are created: what VPA's admission is on Kubernetes."""

from __future__ import annotations

from penstock.contracts.controller import Cache
from penstock.decide.scale_target import name_by_labels
from penstock.decide.scaling_conflict import Autoscaler, conflicts, refused_resources
from penstock.decide.vpa import update_mode
from penstock.decide.vpa_apply import sized
from penstock.host.scale_target import aimed
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.keda import ScaledObject
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.vpa import OFF, VerticalPodAutoscaler
from penstock.resources.workload import ReplicaSet

AUTOSCALERS: tuple[type[Autoscaler], ...] = (
    VerticalPodAutoscaler,
    HorizontalPodAutoscaler,
    ScaledObject,
    PodAutoscaler,
)
"""All kinds that may pull at one target."""


def sized_for(pod: Pod, replica_set: ReplicaSet, cache: Cache) -> Pod:
    """A new pod of the replica set, with the requests and limits that the set's vertical autoscaler recommends, if it has one."""
    autoscaler = _autoscaler_of(replica_set, cache)
    if autoscaler is None or update_mode(autoscaler) == OFF:
        return pod
    refused = refused_resources(
        conflicts(aimed(autoscaler, cache), rivals(cache, replica_set.metadata.namespace))
    )
    return sized(pod, autoscaler, refused).pod


def rivals(cache: Cache, namespace: str) -> tuple[Autoscaler, ...]:
    """All autoscalers of a namespace, each aimed at what it scales."""
    return tuple(aimed(scaler, cache) for kind in AUTOSCALERS for scaler in cache.list(kind, namespace))


def _autoscaler_of(replica_set: ReplicaSet, cache: Cache) -> VerticalPodAutoscaler | None:
    """The oldest whose target is the replica set, what controls it, or the component that it is a revision of."""
    workloads = {
        (replica_set.kind, replica_set.metadata.name),
        ("Deployment", name_by_labels(replica_set.metadata.labels)),
        *((owner.kind, owner.name) for owner in replica_set.metadata.owner_references if owner.controller),
    }
    found = [
        autoscaler
        for autoscaler in cache.list(VerticalPodAutoscaler, replica_set.metadata.namespace)
        if (autoscaler.spec.target_ref.kind, autoscaler.spec.target_ref.name) in workloads
        and autoscaler.metadata.deletion_timestamp is None
    ]
    return min(found, key=_age, default=None)


def _age(obj: Resource) -> tuple[str, str]:
    return obj.metadata.creation_timestamp or "", obj.metadata.name
