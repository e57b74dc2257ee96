"""Who gives way so that all pods of a burst get room, at least cost together?

First one pod after the other, where each uses what the victims of those before it leave over. Then it is asked whether others would do for all
together: those without whom all still fit are let go, dearest first; and where no more than `EXACT` come into question, every choice is weighed.
Two that ask for one GPU each may so have one victim with two, which is cheaper than two victims.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from penstock.decide.dry_run import Room
from penstock.decide.lost_work import Unit, gpus_of, priority_of, usual_redo_s
from penstock.decide.preemption import EXACT, WAIT_WEIGHT, Preemption, Victim, preempt, words
from penstock.resources.pod import Pod

MAX_PLACEMENTS = 1000
"""How many pods may be placed to weigh one burst; beyond it the best choice until then stands."""


class Plan(NamedTuple):
    """Who gives way to which of `pods`, the node of each by its uid, what room there will be then, and who stays."""

    pods: tuple[Pod, ...]
    chosen: tuple[tuple[Pod, Preemption], ...]
    nodes: dict[str, str]
    room: Room
    units: tuple[Unit, ...]

    @property
    def victims(self) -> tuple[Victim, ...]:
        """Of all."""
        return tuple(victim for _, found in self.chosen for victim in found.victims)


class Unmet(NamedTuple):
    """The first pod for which there is no room, and why nobody makes it; None where it may not ask."""

    pod: Pod
    why: Preemption | None


def one_by_one(
    pods: Iterable[Pod], units: tuple[Unit, ...], room: Room, now: float, *, may_ask: bool = True
) -> Plan | Unmet:
    """What gives all of them room; nobody gives way in vain."""
    room, pods = room.without(()), tuple(pods)
    nodes: dict[str, str] = {}
    chosen: list[tuple[Pod, Preemption]] = []
    for pod in pods:
        if node := room.take(pod):
            nodes[pod.metadata.uid] = node  # now, or once those who were told are gone
            continue
        if not may_ask:
            return Unmet(pod, None)
        found = preempt(pod, units, room.fits(pod), now)
        room = room.without(_pods(found.victims))
        node = room.take(pod) if found.victims else ""
        if not node:
            return Unmet(pod, found)
        nodes[pod.metadata.uid] = node
        chosen.append((pod, found))
        units = _staying(units, found.victims)
    return Plan(pods, tuple(chosen), nodes, room, units)


def together(plan: Plan, units: tuple[Unit, ...], room: Room, now: float) -> Plan:
    """The plan, or a cheaper one for the same pods. `units` and `room` are as they were before it; all its pods are of one priority."""
    if len(plan.chosen) < 2:
        return plan
    search = _Search(plan, units, room, now)
    victims = search.best()
    if {victim.unit.name for victim in victims} == {victim.unit.name for victim in plan.victims}:
        return plan
    after = room.without(_pods(victims))
    nodes = after.take_all(plan.pods)
    if nodes is None:
        return plan
    return Plan(plan.pods, _shared_out(plan, nodes, victims), nodes, after, _staying(units, victims))


class _Search:
    """Counts how many pods it placed."""

    def __init__(self, plan: Plan, units: Sequence[Unit], room: Room, now: float) -> None:
        self._pods = plan.pods
        self._placed = 0
        wanted = sum(map(gpus_of, plan.pods))
        usual_s = usual_redo_s(units, now)

        def priced(unit: Unit) -> Victim:
            waiting = WAIT_WEIGHT * min(wanted, unit.gpus) * unit.wait_s
            return Victim(unit, unit.cost(now, usual_s) + waiting)

        self._first = [priced(victim.unit) for victim in plan.victims]
        told, top = {victim.unit.name for victim in self._first}, max(v.unit.priority for v in self._first)
        lowest = min(map(priority_of, plan.pods))
        others = [
            priced(unit)
            for unit in units
            if unit.name not in told
            and unit.priority <= top
            and unit.priority < lowest
            and unit.is_settled(now)
        ]
        others.sort(key=lambda one: (one.cost / max(1e-9, min(wanted, one.unit.gpus)), one.unit.name))
        self._known = [*self._first, *others[: max(0, EXACT - len(self._first))]]
        self._known.sort(key=lambda one: (one.cost, one.unit.name))
        held = {pod.spec.node_name for pod in _pods(self._known)}
        self._room = room.among(held | set(plan.nodes.values()))

    def best(self) -> list[Victim]:
        """The cheapest that was found."""
        chosen = list(self._first)
        for victim in sorted(self._first, key=lambda v: (-v.cost, v.unit.name)):
            rest = [other for other in chosen if other is not victim]
            if self._fits(rest):
                chosen = rest
        return self._exact(chosen) if len(self._known) <= EXACT else chosen

    def _exact(self, known: list[Victim]) -> list[Victim]:
        best, least = known, sum(victim.cost for victim in known)

        def weigh(chosen: list[Victim], left: int, cost: float) -> None:
            nonlocal best, least
            if cost >= least - 1e-6:
                return
            if chosen and self._fits(chosen):
                best, least = chosen, cost
                return
            for index in range(left, len(self._known)):
                weigh([*chosen, self._known[index]], index + 1, cost + self._known[index].cost)

        weigh([], 0, 0.0)
        return best

    def _fits(self, victims: Iterable[Victim]) -> bool:
        if self._placed >= MAX_PLACEMENTS:
            return False
        self._placed += len(self._pods)
        return self._room.without(_pods(victims)).take_all(self._pods) is not None


def _shared_out(
    plan: Plan, nodes: dict[str, str], victims: Sequence[Victim]
) -> tuple[tuple[Pod, Preemption], ...]:
    """Each victim by the first pod that gets a node of it; one of no such node, by the first pod of all."""
    left, found = list(victims), []
    considered = max(one.considered for _, one in plan.chosen)
    for pod in (*plan.pods, None):
        node = nodes[(pod or plan.pods[0]).metadata.uid]
        own = [v for v in left if pod is None or any(p.spec.node_name == node for p in v.unit.pods)]
        if own:
            left = [victim for victim in left if victim not in own]
            cost = sum(victim.cost for victim in own)
            preemption = Preemption(node, words(node, own), tuple(own), cost, considered=considered)
            found.append((pod or plan.pods[0], preemption))
    return tuple(found)


def _pods(victims: Iterable[Victim]) -> tuple[Pod, ...]:
    return tuple(chain.from_iterable(victim.unit.pods for victim in victims))


def _staying(units: Iterable[Unit], victims: Iterable[Victim]) -> tuple[Unit, ...]:
    gone = {victim.unit.name for victim in victims}
    return tuple(unit for unit in units if unit.name not in gone)
