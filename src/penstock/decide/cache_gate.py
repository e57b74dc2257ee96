"""May this pod be placed now, as far as its model's cache is concerned?

A pod of a service that a cache serves is made with a scheduling gate (Kubernetes, podSchedulingReadiness). It opens when a node of the
service's group holds the model, and the pod is then kept to such nodes, as a local volume would keep it. Upstream places the pod
anyway, onto a node that may still be downloading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.decide.caching import DOWNLOADED, NOT_READY, Cache, model_key
from penstock.resources.pod import Pod, PodSpec

GATE = "penstock.dev/model-cache"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
HOSTNAME = "metadata.name"


@dataclass(frozen=True, slots=True)
class Gate:
    """`nodes` are where the pod may go; none while it has to wait, for what `message` says."""

    nodes: tuple[str, ...]
    message: str


def gate_of(cache: Cache | None, group: str, nodes: Iterable[str], progress: Mapping[str, str]) -> Gate:
    """`nodes` are the group's; `progress` says for a node that is at it how far it is. Without the cache the source itself is read."""
    members = tuple(nodes)
    if cache is None:
        return Gate(members, "its model cache is gone: the model is fetched from its source")
    words = cache.status.node_status
    ready = tuple(node for node in members if words.get(node) == DOWNLOADED)
    if ready:
        return Gate(ready, f"{len(ready)} of {len(members)} nodes of {group} hold model {model_key(cache)}")
    if not members:
        return Gate((), f"waiting for model cache {model_key(cache)}: node group {group} has no node")
    told = ", ".join(f"{node}: {progress.get(node) or words.get(node, NOT_READY)}" for node in members)
    return Gate(
        (),
        f"waiting for model cache {model_key(cache)}: 0 of {len(members)} nodes of {group} hold it ({told})",
    )


def together(gates: Iterable[Gate]) -> Gate:
    """One gate for a pod of several models: open where a node holds all of them."""
    every = tuple(gates)
    shut = "; ".join(gate.message for gate in every if not gate.nodes)
    if shut or not every:
        return Gate((), shut)
    nodes = tuple(node for node in every[0].nodes if all(node in gate.nodes for gate in every))
    told = "; ".join(gate.message for gate in every)
    return Gate(nodes, told if nodes else f"waiting for a node that holds all of its models: {told}")


def gated(spec: PodSpec) -> PodSpec:
    """The pod with the gate."""
    if is_gated(spec):
        return spec
    return msgspec.structs.replace(spec, scheduling_gates=(*spec.scheduling_gates, {"name": GATE}))


def is_gated(spec: PodSpec) -> bool:
    """Whether the pod waits at the gate."""
    return any(gate.get("name") == GATE for gate in spec.scheduling_gates)


def opened(pod: Pod, nodes: tuple[str, ...]) -> dict[str, Any]:
    """The merge patch of the pod's spec that takes the gate away and keeps it to `nodes`. Terms are alternatives: each gets the nodes."""
    gates = [gate for gate in pod.spec.scheduling_gates if gate.get("name") != GATE]
    affinity = msgspec.to_builtins(pod.spec.affinity) or {}
    on_nodes = affinity.get("nodeAffinity") or {}
    terms = (on_nodes.get(REQUIRED) or {}).get("nodeSelectorTerms") or [{}]
    only = {"key": HOSTNAME, "operator": "In", "values": list(nodes)}
    kept = [{**term, "matchFields": [*(term.get("matchFields") or ()), only]} for term in terms]
    required = {**on_nodes, REQUIRED: {"nodeSelectorTerms": kept}}
    return {"schedulingGates": gates, "affinity": {**affinity, "nodeAffinity": required}}
