"""Which node does this pod get?

Filters as kube-scheduler's, first failing check named per node, in its words; then the node that is left least loaded
and holds fewest pods of the same owner; ties go by a hash of stable names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from penstock.kit.hashing import short_hash
from penstock.kit.quantity import format_quantity, parse_quantity
from penstock.resources.core import Node, Taint
from penstock.resources.meta import Quantity
from penstock.resources.pod import Container, Pod, Toleration

Amounts = Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Placement:
    """`node` is "" when no node fits; `message` says why in kube-scheduler's words, `hint` the smallest change that helps."""

    node: str
    message: str
    refusals: tuple[tuple[str, str], ...] = ()
    runner_up: str = ""
    hint: str = ""


def place(pod: Pod, nodes: tuple[Node, ...], bound: tuple[Pod, ...]) -> Placement:
    """`bound` are all pods that hold a node and have not ended."""
    needs = requests_of(pod)
    held = {
        node.metadata.name: [p for p in bound if p.spec.node_name == node.metadata.name] for node in nodes
    }
    refusals, fitting = [], []
    for node in nodes:
        name = node.metadata.name
        reason = _refusal(pod, needs, node, held[name])
        if reason:
            refusals.append((name, reason))
        else:
            fitting.append((_score(pod, needs, node, held[name]), name))
    if not fitting:
        message, hint = _explain(tuple(refusals), len(nodes)), _hint(pod, needs, nodes, held)
        return Placement("", message, tuple(refusals), hint=hint)
    fitting.sort()
    chosen = fitting[0][1]
    runner_up = fitting[1][1] if len(fitting) > 1 else ""
    message = f"least loaded of {len(fitting)} fitting nodes" if runner_up else "the only node that fits"
    return Placement(chosen, message, tuple(refusals), runner_up)


def requests_of(pod: Pod) -> Amounts:
    """What the pod reserves: the sum over its containers, or one init container's if that is more; and one pod."""
    total: dict[str, Decimal] = {}
    for container in pod.spec.containers:
        for name, amount in _container_requests(container).items():
            total[name] = total.get(name, Decimal(0)) + amount
    for container in pod.spec.init_containers:
        for name, amount in _container_requests(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    for name, quantity in pod.spec.overhead.items():
        total[name] = total.get(name, Decimal(0)) + parse_quantity(quantity)
    return total | {"pods": Decimal(1)}


def _container_requests(container: Container) -> Amounts:
    """A limit without a request counts as the request (Kubernetes)."""
    if container.resources is None:
        return {}
    merged: dict[str, Quantity] = {**container.resources.limits, **container.resources.requests}
    return {name: parse_quantity(quantity) for name, quantity in merged.items()}


def _free(node: Node, held: Iterable[Pod]) -> dict[str, Decimal]:
    free = {name: parse_quantity(quantity) for name, quantity in node.status.allocatable.items()}
    for pod in held:
        for name, amount in requests_of(pod).items():
            free[name] = free.get(name, Decimal(0)) - amount
    return free


def _refusal(pod: Pod, needs: Amounts, node: Node, held: list[Pod]) -> str:
    """The first check that fails, or ""."""
    if not any(c.type == "Ready" and c.status == "True" for c in node.status.conditions):
        return "node(s) were not ready"
    if node.spec.unschedulable:
        return "node(s) were unschedulable"
    for taint in node.spec.taints:
        if taint.effect in ("NoSchedule", "NoExecute") and not _tolerated(taint, pod.spec.tolerations):
            shown = f"{taint.key}: {taint.value}" if taint.value else taint.key
            return f"node(s) had untolerated taint {{{shown}}}"
    if not _wanted(pod, node):
        return "node(s) didn't match Pod's node affinity/selector"
    free = _free(node, held)
    for name in sorted(needs):
        if needs[name] > free.get(name, Decimal(0)):
            return "Too many pods" if name == "pods" else f"Insufficient {name}"
    return ""


def _tolerated(taint: Taint, tolerations: tuple[Toleration, ...]) -> bool:
    return any(
        (not t.effect or t.effect == taint.effect)
        and ((not t.key and t.operator == "Exists") or t.key == taint.key)
        and (t.operator == "Exists" or t.value == taint.value)
        for t in tolerations
    )


def _wanted(pod: Pod, node: Node) -> bool:
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return False
    affinity = (pod.spec.affinity or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    fields = {"metadata.name": node.metadata.name}
    return any(
        all(_holds(term, labels) for term in choice.get("matchExpressions") or ())
        and all(_holds(term, fields) for term in choice.get("matchFields") or ())
        for choice in required.get("nodeSelectorTerms") or ()
        if choice
    )


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


def _score(pod: Pod, needs: Amounts, node: Node, held: list[Pod]) -> tuple[int, int, str]:
    """Lowest wins: pods of the same owner here, then the load in percent after placing, then a hash."""
    owners = {owner.uid for owner in pod.metadata.owner_references}
    siblings = sum(bool(owners & {o.uid for o in other.metadata.owner_references}) for other in held)
    free = _free(node, held)
    loads = []
    for name in ("cpu", "memory"):
        whole = parse_quantity(node.status.allocatable.get(name, 0))
        if whole:
            loads.append(int(100 * (whole - free[name] + needs.get(name, Decimal(0))) / whole))
    preferred = any(
        taint.effect == "PreferNoSchedule" and not _tolerated(taint, pod.spec.tolerations)
        for taint in node.spec.taints
    )
    tie = short_hash([pod.metadata.uid or pod.metadata.name, node.metadata.name])
    return siblings + 1000 * preferred, sum(loads), tie


def _explain(refusals: tuple[tuple[str, str], ...], nodes: int) -> str:
    counts = Counter(reason for _, reason in refusals)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return f"0/{nodes} nodes are available: {reasons}." if reasons else "0/0 nodes are available."


def _hint(pod: Pod, needs: Amounts, nodes: tuple[Node, ...], held: Mapping[str, list[Pod]]) -> str:
    """The shortage that is smallest on the node where the least is missing."""
    best: tuple[int, str] | None = None
    for node in nodes:
        free = _free(node, held[node.metadata.name])
        short = {
            n: need - free.get(n, Decimal(0)) for n, need in needs.items() if need > free.get(n, Decimal(0))
        }
        if short and (best is None or len(short) < best[0]):
            missing = " and ".join(
                f"{format_quantity(amount)} {name}" for name, amount in sorted(short.items())
            )
            best = (len(short), f"node {node.metadata.name} lacks {missing}: free it, or request less")
    if best is not None:
        return best[1]
    return (
        "add a node, or relax the pod's nodeSelector, affinity or tolerations"
        if nodes
        else "there is no node"
    )
