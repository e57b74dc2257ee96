"""Short ways to the objects that tests need: a cluster in memory, and small valid resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penstock.host.cluster import EmbeddedCluster
from penstock.host.objects import ObjectStore
from penstock.host.store import Store
from penstock.kit.clock import Clock
from penstock.resources.core import ConfigMap, Namespace, Node, NodeStatus, Secret
from penstock.resources.meta import Condition, Labels, LabelSelector, ObjectMeta, OwnerReference, Resource
from penstock.resources.pod import Container, Pod, PodSpec, PodTemplateSpec
from penstock.resources.workload import Deployment, DeploymentSpec, Job, JobSpec, ReplicaSet, ReplicaSetSpec


def memory_cluster(*, clock: Clock | None = None, history_steps: int = 2048) -> EmbeddedCluster:
    """An empty embedded cluster that forgets everything: the real store and semantics, on ":memory:"."""
    return EmbeddedCluster(ObjectStore(Store(":memory:", history_steps=history_steps), clock))


def disk_cluster(path: Path, *, clock: Clock | None = None) -> EmbeddedCluster:
    """The same on a file."""
    return EmbeddedCluster(ObjectStore(Store(path), clock))


def meta(name: str, namespace: str = "default", **fields: Any) -> ObjectMeta:
    """Metadata with a name and namespace; further fields as `ObjectMeta` names them."""
    return ObjectMeta(name=name, namespace=namespace, **fields)


def owned_by(owner: Resource, *, controller: bool = True, block: bool = True) -> OwnerReference:
    """A reference to a stored owner."""
    return OwnerReference(
        api_version=owner.api_version,
        kind=owner.kind,
        name=owner.metadata.name,
        uid=owner.metadata.uid,
        controller=controller,
        block_owner_deletion=block,
    )


def namespace(name: str) -> Namespace:
    """A namespace."""
    return Namespace(metadata=ObjectMeta(name=name))


def config_map(
    name: str, namespace: str = "default", *, data: dict[str, str] | None = None, **fields: Any
) -> ConfigMap:
    """A ConfigMap with one entry unless `data` is given."""
    return ConfigMap(metadata=meta(name, namespace, **fields), data=data or {"key": "value"})


def secret(name: str, namespace: str = "default", **texts: str) -> Secret:
    """An Opaque Secret of these texts."""
    return Secret(metadata=meta(name, namespace), type="Opaque", string_data=texts)


def pod(name: str, namespace: str = "default", *, node: str = "", **fields: Any) -> Pod:
    """A pod of one container; with `node` it counts as placed."""
    return Pod(metadata=meta(name, namespace, **fields), spec=pod_spec(node_name=node))


def pod_spec(**fields: Any) -> PodSpec:
    """One container called `main`, unless `containers` are given."""
    return PodSpec(**{"containers": (Container(name="main", image="example", command=("true",)),), **fields})


def template(labels: Labels, **fields: Any) -> PodTemplateSpec:
    """A pod template with these labels."""
    return PodTemplateSpec(metadata=ObjectMeta(labels=labels), spec=pod_spec(**fields))


def deployment(
    name: str, namespace: str = "default", *, replicas: int | None = 1, **fields: Any
) -> Deployment:
    """A Deployment that selects `app=NAME`; further fields as `DeploymentSpec` names them."""
    labels = {"app": name}
    spec = {"selector": LabelSelector(match_labels=labels), "template": template(labels), **fields}
    return Deployment(
        metadata=meta(name, namespace, labels=labels), spec=DeploymentSpec(replicas=replicas, **spec)
    )


def replica_set(
    name: str, namespace: str = "default", *, replicas: int | None = 1, **fields: Any
) -> ReplicaSet:
    """A ReplicaSet that selects `app=NAME`; further fields as `ObjectMeta` names them."""
    labels = {"app": name}
    return ReplicaSet(
        metadata=meta(name, namespace, labels=labels, **fields),
        spec=ReplicaSetSpec(
            replicas=replicas, selector=LabelSelector(match_labels=labels), template=template(labels)
        ),
    )


def job(name: str, namespace: str = "default", **fields: Any) -> Job:
    """A Job of one pod; further fields as `JobSpec` names them."""
    return Job(
        metadata=meta(name, namespace),
        spec=JobSpec(**{"template": template({"job": name}, restart_policy="Never"), **fields}),
    )


def node(name: str, *, labels: Labels | None = None, ready: bool = True, **capacity: str) -> Node:
    """A node with 4 cores, 16 GiB and room for 110 pods unless `capacity` says otherwise."""
    amounts = {"cpu": "4", "memory": "16Gi", "pods": "110", **capacity}
    return Node(
        metadata=ObjectMeta(name=name, labels={"kubernetes.io/hostname": name, **(labels or {})}),
        status=NodeStatus(
            capacity=dict(amounts),
            allocatable=dict(amounts),
            conditions=(Condition(type="Ready", status="True" if ready else "False", reason="KubeletReady"),),
        ),
    )
