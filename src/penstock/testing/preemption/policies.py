"""Who gives way: by the product's own decision, in the order of kube-scheduler's DefaultPreemption as a baseline, or by one who knows all, as a bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import NamedTuple

from msgspec.structs import replace

from penstock.decide.lost_work import Faith, History, priority_of, units_of
from penstock.decide.preemption import Fits, preempt
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.pod import Pod


class Past(NamedTuple):
    """What was seen so far: by job, and of all. `truth_s` is what each job would really lose, by its name: only a bound may look at it."""

    histories: Mapping[str, History]
    faith: Faith
    truth_s: Mapping[str, float]


Policy = Callable[[Pod, Sequence[Pod], Past, Fits, float], tuple[str, tuple[Pod, ...]]]
"""The waiting pod, those that hold nodes, what jobs went through, whether it fits, and now; answers the node and who gives way there."""


def penstock(
    pod: Pod, bound: Sequence[Pod], past: Past, fits: Fits, now: float
) -> tuple[str, tuple[Pod, ...]]:
    """`decide/preemption.py`."""
    found = preempt(pod, units_of(bound, now, past.histories, past.faith), fits, now)
    return found.node, tuple(other for victim in found.victims for other in victim.unit.pods)


def informed(
    pod: Pod, bound: Sequence[Pod], past: Past, fits: Fits, now: float
) -> tuple[str, tuple[Pod, ...]]:
    """The same decision by one who knows what each job would lose, also of those that hide it or lie: what there is to gain by knowing more."""
    units = [
        replace(unit, since=inf, save_s=None, faith=1.0, times=0, restore_s=past.truth_s[unit.name])
        for unit in units_of(bound, now, {})
    ]
    known = [replace(unit, reports=True) for unit in units]
    found = preempt(pod, known, fits, now)
    return found.node, tuple(other for victim in found.victims for other in victim.unit.pods)


def kubernetes(
    pod: Pod, bound: Sequence[Pod], past: Past, fits: Fits, now: float
) -> tuple[str, tuple[Pod, ...]]:
    """On each node all of lower priority go, then come back from the most important on (priority, then longest running) as long as the pod fits.

    The node: lowest top priority of a victim, lowest sum of priorities, fewest victims, latest start of the most important. There are no
    disruption budgets here.
    """
    by_node: dict[str, list[Pod]] = {}
    for other in bound:
        if priority_of(other) < priority_of(pod):
            by_node.setdefault(other.spec.node_name, []).append(other)
    best: tuple[tuple[int, int, int, float, str], str, tuple[Pod, ...]] | None = None
    for node, lower in sorted(by_node.items()):
        if not fits(node, tuple(lower)):
            continue
        victims: list[Pod] = list(lower)
        for other in sorted(lower, key=_importance):
            rest = [one for one in victims if one is not other]
            if fits(node, tuple(rest)):
                victims = rest
        top = max(map(priority_of, victims), default=0)
        earliest = min((_start(v) for v in victims if priority_of(v) == top), default=0.0)
        rank = (top, sum(map(priority_of, victims)), len(victims), -earliest, node)
        if best is None or rank < best[0]:
            best = (rank, node, tuple(victims))
    return (best[1], best[2]) if best else ("", ())


POLICIES: Mapping[str, Policy] = {"penstock": penstock, "kubernetes": kubernetes, "informed": informed}


def _importance(pod: Pod) -> tuple[int, float, str]:
    return -priority_of(pod), _start(pod), pod.metadata.name


def _start(pod: Pod) -> float:
    return parse_rfc3339(pod.status.start_time) if pod.status.start_time else float("inf")
