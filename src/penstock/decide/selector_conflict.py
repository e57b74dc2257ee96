"""Can any node at all satisfy what this pod says of nodes?

A node selector and a required node affinity that contradict each other are told apart from nodes that are merely not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from penstock.decide.gpu_aliases import MEANT
from penstock.resources.pod import Pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def contradiction(pod: Pod) -> str:
    """The sentence that says what contradicts what, "" where a node could satisfy all. Of several terms one must be satisfiable."""
    selector = pod.spec.node_selector
    affinity = (pod.spec.affinity or {}).get("nodeAffinity") or {}
    terms = [term for term in (affinity.get(REQUIRED) or {}).get("nodeSelectorTerms") or () if term]
    conflicts = [_conflict(selector, term.get("matchExpressions") or ()) for term in terms]
    if not conflicts or "" in conflicts:
        return ""
    return f"no node can satisfy {'; nor '.join(dict.fromkeys(conflicts))}: leave one of them out"


def _conflict(selector: Mapping[str, str], expressions: Iterable[Mapping[str, Any]]) -> str:
    by_key: dict[str, list[Mapping[str, Any]]] = {
        key: [{"key": key, "operator": "In", "values": [value]}] for key, value in selector.items()
    }
    for one in expressions:
        if MEANT in one:
            continue  # about types of GPU, whose names differ from provider to provider: `device_requests`
        by_key.setdefault(str(one.get("key", "")), []).append(one)
    for conditions in by_key.values():
        if not _satisfiable(conditions):
            return " together with ".join(map(_words, conditions))
    return ""


def _satisfiable(conditions: list[Mapping[str, Any]]) -> bool:
    """Whether a label's one value, or its absence, meets them all."""
    allowed = [set(one.get("values") or ()) for one in conditions if one.get("operator") == "In"]
    forbidden = {v for one in conditions if one.get("operator") == "NotIn" for v in one.get("values") or ()}
    operators = {one.get("operator") for one in conditions}
    if "DoesNotExist" in operators:
        return not operators & {"In", "Exists", "Gt", "Lt"}
    low = max((_number(one) for one in conditions if one.get("operator") == "Gt"), default=None)
    high = min((_number(one) for one in conditions if one.get("operator") == "Lt"), default=None)
    if not allowed:
        return low is None or high is None or high - low > 1
    left = set.intersection(*allowed) - forbidden
    return any(_within(value, low, high) for value in left)


def _within(value: str, low: int | None, high: int | None) -> bool:
    if low is None and high is None:
        return True
    if not value.isdecimal():
        return False
    return (low is None or int(value) > low) and (high is None or int(value) < high)


def _number(one: Mapping[str, Any]) -> int:
    values = one.get("values") or ()
    return int(values[0]) if values and str(values[0]).isdecimal() else 0


def _words(one: Mapping[str, Any]) -> str:
    values = ", ".join(map(str, one.get("values") or ()))
    return f"{one.get('key')} {one.get('operator')}" + (f" [{values}]" if values else "")
