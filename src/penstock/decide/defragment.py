"""Which pods should move so that the GPUs that are left serve the usual work better?

First of all so that a pod which waits gets room: on each node the units are chosen that cost least for what they free, until it fits, and those that
turned out not to be needed stay. With nobody waiting it is the one unit whose move strands least of what is free afterwards, where an hour of
that is worth more than the move costs. Either way it is proven first that every unit has a home (`move_proof`); what cannot be proven
does not move. And nothing does beyond a budget of pods and GPU-seconds per hour.

One plan at a time: the next is made when this one has come to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from penstock.contracts.devices import WHOLE_MILLI, DeviceRequest
from penstock.decide.fragmentation import Worth
from penstock.decide.gang import Member, Placer, place_gang
from penstock.decide.inventory import Inventory, NodeRoom
from penstock.decide.lost_work import MIG_SLICES, priority_of
from penstock.decide.mig_start import NO_DEMAND, Demand
from penstock.decide.movable import Movable, Way
from penstock.decide.move_budget import Allowance
from penstock.decide.move_proof import Failed, Proof, prove
from penstock.decide.spare_nodes import Requests
from penstock.decide.stranded import freed
from penstock.resources.pod import Pod

MOST_WAITING = 8
"""Of those that wait so many are looked at in one round, by their turn."""
MOST_NODES = 32
MOST_UNITS = 16
"""How many units one plan may move."""
MOST_TRIED = 64
"""Units whose move is proven in one round, those first that strand most where they are."""
LEAST_WON = 100.0
"""Thousandths of a GPU: less is not worth a move, whatever it costs."""
HORIZON_S = 3600.0
"""For so long what is won is expected to be of use."""
RETRIES = 4
"""How often a choice is made anew without a unit that turned out to have no home."""


class Scene(Struct, frozen=True, kw_only=True):
    """What is: `stock` is what all bound pods leave, `requests` what each pod asks for, by uid, `worth` what GPUs are worth to the usual work."""

    stock: Inventory
    requests: Requests
    worth: Worth
    mig_demand: Demand = NO_DEMAND


class Waiting(Struct, frozen=True):
    """A pod for which no room was found, or all pods of a gang; by their turn."""

    name: str
    members: tuple[Member, ...]


class Move(Struct, frozen=True):
    """One pod, the node that was found for its successor, and what its unit's move costs in GPU-seconds."""

    pod: Pod
    to: str
    way: Way
    unit: str
    cost: float


class Defragmentation(Struct, frozen=True, kw_only=True):
    """`moves` are made together, none if `message` says why nothing moves. `gpus` is what is won, `made_for` who waits, "" for nobody.

    `kept` says of units that were looked at why they stay.
    """

    moves: tuple[Move, ...] = ()
    message: str = ""
    gpus: float = 0.0
    cost: float = 0.0
    made_for: str = ""
    kept: tuple[tuple[str, str], ...] = ()
    over_budget: bool = False


class _Choice(Struct, frozen=True):
    """Units that would move together, proven."""

    units: tuple[Movable, ...]
    proof: Proof
    gpus: float
    made_for: str = ""

    @property
    def cost(self) -> float:
        return sum(unit.cost for unit in self.units)

    @property
    def pods(self) -> int:
        return sum(len(unit.unit.pods) for unit in self.units)


def defragment(
    scene: Scene,
    units: Sequence[Movable],
    waiting: Sequence[Waiting],
    allowance: Allowance,
    place: Placer,
    *,
    only_for_waiting: bool = False,
) -> Defragmentation:
    """`units` are those that may move, `waiting` by their turn; `place` finds nodes as the host does, in any inventory."""
    search = _Search(scene, place)
    refused = ""
    for one in waiting[:MOST_WAITING]:
        choices = search.for_waiting(one, units)
        affordable = [c for c in choices if not allowance.refusal(c.pods, c.cost)]
        if affordable:
            best = min(affordable, key=_dearness)
            return _answer(best, f"so that {one.name} gets room", search)
        if choices:
            best = min(choices, key=_dearness)
            refused = refused or f"{one.name} waits: {allowance.refusal(best.pods, best.cost)}"
    if waiting or only_for_waiting:
        told = refused or (
            "no move would make room for who waits" if waiting else "no pod waits for room on GPUs"
        )
        return Defragmentation(message=told, kept=tuple(search.kept.items()), over_budget=bool(refused))
    choices = search.for_all(units)
    affordable = [c for c in choices if not allowance.refusal(c.pods, c.cost)]
    if affordable:
        best = max(affordable, key=lambda c: (c.gpus * HORIZON_S - c.cost, c.units[0].unit.name))
        return _answer(best, f"{best.gpus:.2f} GPUs more are of use to the usual work", search)
    if choices:
        refused = allowance.refusal(choices[0].pods, choices[0].cost)
    told = refused or "no move wins more than it costs"
    return Defragmentation(message=told, kept=tuple(search.kept.items()), over_budget=bool(refused))


class _Search:
    """One round. `kept` says of units that were tried why they stay."""

    def __init__(self, scene: Scene, place: Placer) -> None:
        self._scene = scene
        self._place = place
        self.kept: dict[str, str] = {}

    def for_waiting(self, waiting: Waiting, units: Sequence[Movable]) -> list[_Choice]:
        """Of one pod a choice for each node where it would fit, of a gang one for all nodes; proven."""
        first = waiting.members[0].pod
        may = [one for one in units if one.way == "Surge" or one.unit.priority <= priority_of(first)]
        largest = max(
            (gpu.gpu.type.memory_bytes for room in self._scene.stock.rooms.values() for gpu in room.gpus),
            default=1,
        )
        wins = sum(_gpus_of(ask, largest) for member in waiting.members for ask in member.requests)
        found = []
        for node, here in self._scopes(waiting, may):
            if choice := self._chosen(waiting, node, here, wins):
                found.append(choice)
        return found

    def for_all(self, units: Sequence[Movable]) -> list[_Choice]:
        """Each unit's move for itself, where it wins enough."""
        found = []
        for one in sorted(units, key=lambda one: (-self._in_the_way(one), one.unit.name))[:MOST_TRIED]:
            proof = self._proven((one,))
            if isinstance(proof, Failed):
                continue
            won = freed(self._scene.stock, proof.after, self._scene.worth, self._scene.mig_demand)
            if won < LEAST_WON:
                self.kept[one.unit.name] = f"its move wins {won / WHOLE_MILLI:.2f} GPUs"
            elif won / WHOLE_MILLI * HORIZON_S <= one.cost:
                told = f"{won / WHOLE_MILLI:.2f} GPUs for an hour do not outweigh {one.cost:.0f} GPU-seconds"
                self.kept[one.unit.name] = told
            else:
                found.append(_Choice((one,), proof, won / WHOLE_MILLI))
        return found

    def _scopes(self, waiting: Waiting, units: Sequence[Movable]) -> list[tuple[str, list[Movable]]]:
        """Nodes that would have room without all that may move, those with most free GPUs first; "" stands for all of them."""
        rooms = self._scene.stock.rooms
        if len(waiting.members) > 1:
            return [("", list(units))]
        by_node: dict[str, list[Movable]] = {}
        for one in units:
            for node in {pod.spec.node_name for pod in one.unit.pods} & rooms.keys():
                by_node.setdefault(node, []).append(one)
        ordered = sorted(by_node, key=lambda node: (-_free(rooms[node]), node))
        fitting = (node for node in ordered if self._fits(waiting, node)(by_node[node]))
        return [(node, by_node[node]) for node, _ in zip(fitting, range(MOST_NODES), strict=False)]

    def _chosen(self, waiting: Waiting, node: str, here: list[Movable], wins: float) -> _Choice | None:
        """Cheapest first for what they free, until it fits; made anew without those that have no home."""
        fits, left = self._fits(waiting, node), list(here)
        for _ in range(RETRIES):
            units = _cheapest(left, fits)
            if not units:
                return None
            proof = self._proven(units, waiting.members, node)
            if isinstance(proof, Proof):
                return _Choice(tuple(units), proof, wins, waiting.name)
            if not proof.unit:
                return None
            left = [one for one in left if one.unit.name != proof.unit]
        return None

    def _fits(self, waiting: Waiting, node: str) -> Callable[[Sequence[Movable]], bool]:
        stock = self._scene.stock
        scope = Inventory({node: stock.rooms[node]}) if node else stock

        def answer(units: Sequence[Movable]) -> bool:
            left = scope.without(pod for one in units for pod in one.unit.pods)
            if len(waiting.members) > 1:
                return bool(place_gang(waiting.members, left, self._place).placements)
            only = waiting.members[0]
            return bool(self._place(only.pod, left, only.requests).node)

        return answer

    def _proven(
        self, units: Sequence[Movable], waiting: Sequence[Member] = (), node: str = ""
    ) -> Proof | Failed:
        """On the node that is made free no server gets its home."""
        scene, keep_free = self._scene, frozenset((node,) if node else ())
        found = prove(units, waiting, scene.stock, scene.requests, self._place, keep_free=keep_free)
        if isinstance(found, Failed) and found.unit:
            self.kept[found.unit] = found.why
        return found

    def _in_the_way(self, one: Movable) -> float:
        """How much less would be stranded where it is now if it was gone."""
        scene = self._scene
        nodes = {pod.spec.node_name for pod in one.unit.pods} & scene.stock.rooms.keys()
        here = Inventory({node: scene.stock.rooms[node] for node in nodes})
        return freed(here, here.without(one.unit.pods), scene.worth, scene.mig_demand)


def _cheapest(units: Sequence[Movable], fits: Callable[[Sequence[Movable]], bool]) -> list[Movable]:
    """Enough of them, cheapest first for what they free, less those that turn out not to be needed; none if it takes none, or more than may be."""
    if fits(()):
        return []
    chosen: list[Movable] = []
    ordered = sorted(units, key=lambda one: (one.cost / max(one.unit.gpus, 1e-9), one.unit.name))
    for one in ordered[:MOST_UNITS]:
        chosen.append(one)
        if fits(chosen):
            break
    else:
        return []
    for one in sorted(chosen, key=lambda one: (-one.cost, one.unit.name)):
        rest = [other for other in chosen if other is not one]
        if rest and fits(rest):
            chosen = rest
    return chosen


def _gpus_of(request: DeviceRequest, memory_bytes: int) -> float:
    """How many GPUs' worth is asked for, with GPUs of so much memory."""
    if request.profile:
        slices = request.profile.split("g")[0]
        return request.count * (min(1.0, int(slices) / MIG_SLICES) if slices.isdecimal() else 1.0)
    part = max(request.milli / WHOLE_MILLI, request.memory_bytes / memory_bytes)
    return request.count * min(1.0, part)


def _answer(choice: _Choice, message: str, search: _Search) -> Defragmentation:
    moved = {one.unit.name for one in choice.units}
    return Defragmentation(
        moves=tuple(
            Move(pod, home, one.way, one.unit.name, one.cost)
            for one, homes in zip(choice.units, choice.proof.homes, strict=True)
            for pod, home in zip(one.unit.pods, homes, strict=True)
        ),
        message=message,
        gpus=choice.gpus,
        cost=choice.cost,
        made_for=choice.made_for,
        kept=tuple((name, why) for name, why in search.kept.items() if name not in moved),
    )


def _dearness(choice: _Choice) -> tuple[float, int, str]:
    return choice.cost, choice.pods, choice.units[0].unit.name


def _free(room: NodeRoom) -> int:
    return sum(gpu.free_milli for gpu in room.gpus)
