"""May this pod run on this node at all?

What kube-scheduler checks of one node by itself, in its order and its words. What depends on the pods of other nodes is `pod_rules`, which
devices there are is `device_fit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.decide.device_resources import is_device
from penstock.decide.gpu_aliases import MEANT
from penstock.decide.inventory import NodeRoom
from penstock.decide.pod_requests import Units
from penstock.decide.tolerations import untolerated
from penstock.resources.core import Node
from penstock.resources.pod import Pod

GPU_TYPES = "penstock.dev/gpu-types"
"""On a node as placement sees it: the types of its GPUs by our names, parted by commas."""


def barred(pod: Pod, node: Node) -> str:
    """The first check that fails whatever runs there, or ""."""
    if not any(c.type == "Ready" and c.status == "True" for c in node.status.conditions):
        return "node(s) were not ready"
    if node.spec.unschedulable:
        return "node(s) were unschedulable"
    if taint := untolerated(node.spec.taints, pod.spec.tolerations):
        shown = f"{taint.key}: {taint.value}" if taint.value else taint.key
        return f"node(s) had untolerated taint {{{shown}}}"
    if not wanted(pod, node):
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


def insufficient(needs: Units, room: NodeRoom) -> str:
    """The first resource by name of which too little is left, or "". What `short_of` says, for those who ask of thousands of nodes."""
    free, first = room.free, ""
    for name, units in needs.items():
        if units > free.get(name, 0) and (not first or name < first) and is_counted(name, room):
            first = name
    return lacks(first) if first else ""


def lacks(name: str) -> str:
    """That there is too little of a resource, in kube-scheduler's words."""
    return "Too many pods" if name == "pods" else f"Insufficient {name}"


def short_of(needs: Units, room: NodeRoom) -> Units:
    """How much of which resource is missing. Devices that the node's own GPUs offer are not counted here but looked at one by one."""
    return {
        name: units - room.free.get(name, 0)
        for name, units in needs.items()
        if units > room.free.get(name, 0) and is_counted(name, room)
    }


def is_counted(name: str, room: NodeRoom) -> bool:
    """Whether the node counts this resource, rather than having devices that are looked at one by one."""
    return not (room.gpus and name not in room.whole and is_device(name))


def wanted(pod: Pod, node: Node) -> bool:
    """Whether the pod's node selector and its required node affinity allow the node."""
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return False
    affinity = (pod.spec.affinity or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_matches(term, node) for term in required.get("nodeSelectorTerms") or () if term)


def preference(pod: Pod, node: Node) -> int:
    """The sum of the weights of the preferred node affinity that the node fulfils."""
    affinity = (pod.spec.affinity or {}).get("nodeAffinity") or {}
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return sum(int(one.get("weight", 0)) for one in preferred if _matches(one.get("preference") or {}, node))


def _matches(term: Mapping[str, Any], node: Node) -> bool:
    fields = {"metadata.name": node.metadata.name}
    return all(_is_met(one, node) for one in term.get("matchExpressions") or ()) and all(
        _holds(one, fields) for one in term.get("matchFields") or ()
    )


def _is_met(one: Mapping[str, Any], node: Node) -> bool:
    """By the node's label, or by the types of its GPUs where the condition means such (`gpu_aliases`)."""
    holds = _holds(one, node.metadata.labels)
    if MEANT not in one:
        return holds
    types = frozenset(filter(None, node.metadata.annotations.get(GPU_TYPES, "").split(",")))
    match one.get("operator"):
        case "In":
            return holds or not types.isdisjoint(one[MEANT])
        case "NotIn":
            return holds and not (types and types <= frozenset(one[MEANT]))
        case "Exists":
            return holds or bool(types)
    return holds and not types


def _holds(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(term.get("key", "")), term.get("values") or ()
    match term.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            if value is None or not value.isdecimal() or not values or not str(values[0]).isdecimal():
                return False
            return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    return False
