"""Do the pods that run already let this one run there, and would they rather?

Topology spread constraints, affinity and anti-affinity between pods, required and preferred (Kubernetes core/v1), in kube-scheduler's words.
A required anti-affinity of a pod that runs holds against the new pod too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from penstock.decide.inventory import Held, NodeRoom
from penstock.decide.node_rules import wanted
from penstock.resources.meta import LabelSelector
from penstock.resources.pod import Pod
from penstock.resources.selectors import matches_label_selector

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
SPREAD_WEIGHT = 10
"""What one pod too many in a domain costs under ScheduleAnyway, in the unit of affinity weights (1 to 100)."""
Counts = Mapping[str, int]


class Term(Struct, frozen=True):
    """One rule: pods that `chosen` picks, counted by the value of the node label `key`. `weight` 0 is a requirement."""

    key: str
    chosen: Callable[[Pod], bool]
    weight: int = 0


class Spread(Struct, frozen=True):
    """One topology spread constraint."""

    key: str
    chosen: Callable[[Pod], bool]
    skew: int
    is_hard: bool
    domains: int
    own: int


class Verdict(Struct, frozen=True):
    """`refusals` by node name, first failing rule; `preferences` by node name, more is better."""

    refusals: dict[str, str]
    preferences: dict[str, float]


def has_rules(pod: Pod) -> bool:
    """Whether the pod itself says anything about other pods."""
    affinity = pod.spec.affinity or {}
    return bool(
        pod.spec.topology_spread_constraints or affinity.get("podAffinity") or affinity.get("podAntiAffinity")
    )


def judge(pod: Pod, rooms: Iterable[NodeRoom]) -> Verdict:
    """What the pods of all these nodes mean for each of them."""
    rooms = tuple(rooms)
    refusals: dict[str, str] = {}
    preferences: dict[str, float] = {}
    checks = [*_spreads(pod, rooms), *_terms(pod, rooms), _repelled(pod, rooms)]
    for room in rooms:
        for check in checks:
            why, value = check(room)
            if why:
                refusals[room.name] = why
                break
            preferences[room.name] = preferences.get(room.name, 0.0) + value
    return Verdict(refusals, preferences)


Check = Callable[[NodeRoom], tuple[str, float]]


def _spreads(pod: Pod, rooms: tuple[NodeRoom, ...]) -> Iterable[Check]:
    for constraint in pod.spec.topology_spread_constraints:
        yield _spread(_parsed_spread(pod, constraint), pod, rooms)


def _parsed_spread(pod: Pod, constraint: Mapping[str, Any]) -> Spread:
    labels = {
        k: pod.metadata.labels[k] for k in constraint.get("matchLabelKeys") or () if k in pod.metadata.labels
    }
    chosen = _picker(constraint.get("labelSelector"), frozenset((pod.metadata.namespace,)), labels)
    return Spread(
        key=str(constraint.get("topologyKey", "")),
        chosen=chosen,
        skew=int(constraint.get("maxSkew", 1)),
        is_hard=constraint.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        domains=int(constraint.get("minDomains") or 1),
        own=int(chosen(pod)),
    )


def _spread(spread: Spread, pod: Pod, rooms: tuple[NodeRoom, ...]) -> Check:
    eligible = [room for room in rooms if spread.key in room.node.metadata.labels and wanted(pod, room.node)]
    counts = _counted(eligible, spread.key, spread.chosen)
    least = min(counts.values(), default=0) if len(counts) >= spread.domains else 0

    def check(room: NodeRoom) -> tuple[str, float]:
        domain = room.node.metadata.labels.get(spread.key)
        if domain is None:
            missing = "node(s) didn't match pod topology spread constraints (missing required label)"
            return (missing, 0.0) if spread.is_hard else ("", -float(SPREAD_WEIGHT * len(rooms)))
        over = counts.get(domain, 0) + spread.own - least
        if spread.is_hard:
            return ("node(s) didn't match pod topology spread constraints" if over > spread.skew else ""), 0.0
        return "", -float(SPREAD_WEIGHT * max(0, over - spread.skew + 1))

    return check


def _terms(pod: Pod, rooms: tuple[NodeRoom, ...]) -> Iterable[Check]:
    affinity = pod.spec.affinity or {}
    for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
        rules = affinity.get(kind) or {}
        for required in rules.get(REQUIRED) or ():
            term = _parsed_term(pod, required)
            yield _together(term, pod, rooms) if sign > 0 else _apart(term, rooms)
        for preferred in rules.get(PREFERRED) or ():
            term = _parsed_term(pod, preferred.get("podAffinityTerm") or {}, int(preferred.get("weight", 0)))
            yield _rather(term, sign, rooms)


def _parsed_term(pod: Pod, term: Mapping[str, Any], weight: int = 0) -> Term:
    """Without namespaces the pod's own is meant; an empty namespaceSelector means all."""
    names = frozenset(term.get("namespaces") or ())
    everywhere = term.get("namespaceSelector") == {}
    chosen = _picker(
        term.get("labelSelector"), None if everywhere else names or frozenset((pod.metadata.namespace,))
    )
    return Term(str(term.get("topologyKey", "")), chosen, weight)


def _together(term: Term, pod: Pod, rooms: tuple[NodeRoom, ...]) -> Check:
    """The first pod of a group that wants to be with its own kind may go anywhere (Kubernetes)."""
    counts = _counted(rooms, term.key, term.chosen)
    is_first = not any(counts.values()) and term.chosen(pod)

    def check(room: NodeRoom) -> tuple[str, float]:
        domain = room.node.metadata.labels.get(term.key)
        is_met = domain is not None and (is_first or counts.get(domain, 0) > 0)
        return ("" if is_met else "node(s) didn't match pod affinity rules"), 0.0

    return check


def _apart(term: Term, rooms: tuple[NodeRoom, ...]) -> Check:
    counts = _counted(rooms, term.key, term.chosen)

    def check(room: NodeRoom) -> tuple[str, float]:
        there = counts.get(room.node.metadata.labels.get(term.key, ""), 0)
        return ("node(s) didn't match pod anti-affinity rules" if there else ""), 0.0

    return check


def _rather(term: Term, sign: int, rooms: tuple[NodeRoom, ...]) -> Check:
    counts = _counted(rooms, term.key, term.chosen)
    return lambda room: (
        "",
        float(sign * term.weight * counts.get(room.node.metadata.labels.get(term.key, ""), 0)),
    )


def _repelled(pod: Pod, rooms: tuple[NodeRoom, ...]) -> Check:
    """Domains in which a pod runs that wants none like this one near it."""
    closed = {
        (term.key, room.node.metadata.labels.get(term.key))
        for room in rooms
        if room.repels
        for held in room.held
        for term in _repelling(held)
        if term.chosen(pod)
    }

    def check(room: NodeRoom) -> tuple[str, float]:
        labels = room.node.metadata.labels
        is_closed = any(value is not None and labels.get(key) == value for key, value in closed)
        return ("node(s) didn't satisfy existing pods anti-affinity rules" if is_closed else ""), 0.0

    return check


def _repelling(held: Held) -> Iterable[Term]:
    rules = (held.pod.spec.affinity or {}).get("podAntiAffinity") or {}
    return (_parsed_term(held.pod, term) for term in rules.get(REQUIRED) or ())


def _counted(rooms: Iterable[NodeRoom], key: str, chosen: Callable[[Pod], bool]) -> Counts:
    counts: dict[str, int] = {}
    for room in rooms:
        domain = room.node.metadata.labels.get(key)
        if domain is not None:
            counts[domain] = counts.get(domain, 0) + sum(chosen(held.pod) for held in room.held)
    return counts


def _picker(
    selector: Any, namespaces: frozenset[str] | None, labels: Mapping[str, str] | None = None
) -> Callable[[Pod], bool]:
    """Picks pods of these namespaces (None for all) by labels; no selector, or one that cannot be read, picks none (Kubernetes)."""
    try:
        parsed = None if selector is None else msgspec.convert(selector, LabelSelector)
    except msgspec.ValidationError:
        parsed = None
    if parsed is None:
        return lambda pod: False
    return lambda pod: (
        (namespaces is None or pod.metadata.namespace in namespaces)
        and pod.metadata.deletion_timestamp is None
        and all(pod.metadata.labels.get(k) == v for k, v in (labels or {}).items())
        and matches_label_selector(parsed, pod.metadata.labels)
    )
