"""Who gives way when nothing fits?

Kubernetes' rules say who may: pods of lower priority, unless the waiting pod's preemptionPolicy is Never, on one node, and none of a higher
priority than it takes. Among those the least work is lost that can be: for each node the units are added that cost least for what they free, until the pod fits; then those
that turned out not to be needed are let go, dearest first; and where no more than `EXACT` come into question, every choice is weighed. A whole gang
counts in full, wherever its pods are. Source of the greedy choice with its reverse pass: Kueue's preemption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from penstock.decide.lost_work import Unit, gpus_of, priority_of, usual_redo_s
from penstock.kit.hashing import short_hash
from penstock.resources.pod import Pod

EXACT = 12
MOST_NODES = 100
"""On how many nodes choices are weighed, as kube-scheduler does."""
MAX_TRIALS = 4000
"""How often one decision may ask whether the pod fits; beyond it the greedy choice stands."""
WAIT_WEIGHT = 5.0
"""What a second that the waiting pod has to wait is worth, in seconds of each GPU that it asks for."""
MAX_UNITS = 16
"""How many units one pod may push aside."""
Fits = Callable[[str, tuple[Pod, ...]], bool]
"""Whether the waiting pod fits on this node when these pods are gone; more room never makes it fit less."""


class Victim(Struct, frozen=True):
    """A unit that gives way, and what that costs in GPU-seconds, penalties included."""

    unit: Unit
    cost: float


class Preemption(Struct, frozen=True):
    """`node` is "" where nobody gives way, and `message` says why. `cost` is what the victims lose in GPU-seconds with penalties.

    `considered` is how many units are of lower priority.
    """

    node: str
    message: str
    victims: tuple[Victim, ...] = ()
    cost: float = 0.0
    runner_up: str = ""
    considered: int = 0


class _Choice(Struct, frozen=True):
    """What would give way on one node."""

    node: str
    victims: tuple[Victim, ...]
    cost: float


def preempt(pod: Pod, units: Iterable[Unit], fits: Fits, now: float) -> Preemption:
    """`units` are all that hold nodes, and none that is already ending; `fits` is asked about nodes on which some of them are."""
    if pod.spec.preemption_policy == "Never":
        return Preemption("", "preemption: not eligible due to preemptionPolicy=Never.")
    units = tuple(units)
    usual_s = usual_redo_s(units, now)
    lower = [unit for unit in units if unit.priority < priority_of(pod)]
    if not lower:
        return Preemption("", "preemption: no pods of lower priority hold anything.")
    waiting = WAIT_WEIGHT * gpus_of(pod)
    victims = [
        Victim(unit, unit.cost(now, usual_s) + waiting * unit.wait_s) for unit in lower if unit.may_stop(now)
    ]
    search = _Search(pod, fits)
    choices = search.on_all_nodes([victim for victim in victims if victim.unit.is_settled(now)])
    choices = choices or search.on_all_nodes(victims)
    if not choices:
        early = len(lower) - len(victims)
        told = f"; {early} have not run for their least time yet" if early else ""
        message = f"preemption: 0 of {len(lower)} units of lower priority make enough room{told}."
        return Preemption("", message, considered=len(lower))
    ranked = sorted(choices, key=_rank)
    best = min((search.exact(choice) for choice in ranked[:EXACT]), key=_rank)
    others = [choice.node for choice in ranked if choice.node != best.node]
    runner_up = others[0] if others else ""
    return Preemption(
        best.node, words(best.node, best.victims), best.victims, best.cost, runner_up, len(lower)
    )


class _Search:
    """The search for one pod: it counts how often it asked."""

    def __init__(self, pod: Pod, fits: Fits) -> None:
        self._wanted = max(gpus_of(pod), 1e-9)
        self._fits = fits
        self._asked = 0
        self._known: dict[str, list[Victim]] = {}
        self._freed: dict[tuple[str, str], float] = {}

    def on_all_nodes(self, victims: list[Victim]) -> list[_Choice]:
        """A choice for each node where enough can be freed without a higher priority than it takes; the `MOST_NODES` that promise most."""
        for tier in sorted({victim.unit.priority for victim in victims}):
            among = _by_node(victim for victim in victims if victim.unit.priority <= tier)
            found: list[_Choice] = []
            for node in sorted(among, key=lambda node: (self._promise(node, among[node]), node)):
                if choice := self.greedy(node, among[node]):
                    found.append(choice)
                if len(found) >= MOST_NODES:
                    break
            if found:
                return found
        return []

    def greedy(self, node: str, here: list[Victim]) -> _Choice | None:
        """Cheapest first for what they free there, until the pod fits; then without those that it does not take."""
        self._known[node] = here
        if not self._room(node, here):
            return None
        chosen: list[Victim] = []
        for victim in sorted(here, key=lambda v: (v.cost / self._useful(node, v.unit), -v.unit.started_at)):
            if self._room(node, chosen):
                break
            chosen.append(victim)
        for victim in sorted(chosen, key=lambda v: (-v.cost, v.unit.name)):
            rest = [other for other in chosen if other is not victim]
            if self._room(node, rest):
                chosen = rest
        if len(chosen) > MAX_UNITS:
            return None
        return _choice(node, chosen)

    def exact(self, choice: _Choice) -> _Choice:
        """The cheapest choice on that node, where few enough come into question; else the one that is known."""
        here = sorted(self._known[choice.node], key=lambda v: (v.cost, v.unit.name))
        if len(here) > EXACT:
            return choice
        best = choice

        def weigh(chosen: list[Victim], left: int, cost: float) -> None:
            nonlocal best
            if cost >= best.cost or len(chosen) > MAX_UNITS or self._asked >= MAX_TRIALS:
                return
            if self._room(choice.node, chosen):
                best = _choice(choice.node, chosen)
                return
            for index in range(left, len(here)):
                weigh([*chosen, here[index]], index + 1, cost + here[index].cost)

        weigh([], 0, 0.0)
        return best

    def _room(self, node: str, victims: Iterable[Victim]) -> bool:
        self._asked += 1
        return self._fits(node, tuple(pod for victim in victims for pod in victim.unit.pods))

    def _promise(self, node: str, here: list[Victim]) -> float:
        """What the pod would cost there if nothing was free, and GPUs all that mattered."""
        freed, cost = 0.0, 0.0
        for victim in sorted(here, key=lambda v: v.cost / self._useful(node, v.unit)):
            if freed >= self._wanted:
                break
            freed, cost = freed + self._useful(node, victim.unit), cost + victim.cost
        return cost

    def _useful(self, node: str, unit: Unit) -> float:
        known = self._freed.get((node, unit.name))
        if known is None:
            freed = sum(gpus_of(pod) for pod in unit.pods if pod.spec.node_name == node)
            known = self._freed[node, unit.name] = max(min(freed, self._wanted), 1e-9)
        return known


def _by_node(victims: Iterable[Victim]) -> dict[str, list[Victim]]:
    found: dict[str, list[Victim]] = {}
    for victim in victims:
        for node in sorted({pod.spec.node_name for pod in victim.unit.pods}):
            found.setdefault(node, []).append(victim)
    return dict(sorted(found.items()))


def _choice(node: str, victims: Iterable[Victim]) -> _Choice:
    ordered = tuple(sorted(victims, key=lambda v: v.unit.name))
    return _Choice(node, ordered, sum(victim.cost for victim in ordered))


def _rank(choice: _Choice) -> tuple[float, int, float, str]:
    """Least lost, then fewest, then those that started last; ties by a hash of the node's name."""
    first = min((victim.unit.started_at for victim in choice.victims), default=0.0)
    return round(choice.cost, 6), len(choice.victims), -first, short_hash(choice.node)


def words(node: str, victims: Iterable[Victim]) -> str:
    """Who gives way there, with what each loses."""
    parts = []
    for victim in victims:
        unit = victim.unit
        name = unit.pods[0].metadata.name + (f" and {len(unit.pods) - 1} more" if len(unit.pods) > 1 else "")
        can = (
            "saves when told"
            if unit.save_s is not None
            else "from its last checkpoint"
            if unit.reports
            else "reports none"
        )
        parts.append(f"{name} ({unit.gpus:g} GPUs, {victim.cost:.0f} GPU-seconds, {can})")
    return f"gives way on {node}: {', '.join(parts)}"
