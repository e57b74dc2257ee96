"""How does one node stand for this pod: refused, or how good, with which devices?

What depends on this node alone, so that it can be remembered: `Board` keeps the standings of nodes that have not changed since, and a
decision among thousands looks only at the few that have.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from itertools import compress, count
from operator import is_not
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from penstock.contracts.devices import GPU_RESOURCE, WHOLE_MILLI, DeviceRequest, Share
from penstock.decide.device_fit import Asker, Option, name_of, options
from penstock.decide.fragmentation import Worth
from penstock.decide.inventory import NodeRoom, divisible, owner_of, pod_key
from penstock.decide.mig_start import NO_DEMAND, Demand
from penstock.decide.node_rules import insufficient, preference, refusal
from penstock.decide.pod_requests import needs_of
from penstock.decide.tolerations import untolerated
from penstock.resources.pod import Pod

TIGHT_GPU, TIGHT_CPU = 5.0 / 8000, 5.0 / 96000
"""What a free thousandth of a GPU, and of a core, adds to the loss: of equal nodes the fuller one is taken."""
LOSS_PER_MIG_OPTION = 10.0
LOSS_PER_SECOND = 5.0
"""A second of loading weights counts as much as so many thousandths of a GPU that others lose."""
LOSS_PER_PRICE = 50.0
"""The dearest node's price counts as much as so many thousandths; the others' in proportion."""
MOST_REMEMBERED = 512
"""Kinds of pods whose standings a `Board` keeps; of more it forgets the kind that was remembered first."""


MOST_CHANGES = 1_000_000
"""Changes of nodes that a `Board` writes down before it starts afresh."""


class Leaning(Struct, frozen=True):
    """What may be known beside the nodes: seconds to load the pod's weights and price (any unit) by node name, demand for MIG profiles."""

    load_s: Mapping[str, float] = field(default_factory=dict)
    price: Mapping[str, float] = field(default_factory=dict)
    mig_demand: Demand = NO_DEMAND

    def loss(self, node: str) -> float:
        """What load time and price of this node add to the loss."""
        dearest = max(self.price.values(), default=0.0)
        share = self.price.get(node, dearest) / dearest if dearest else 0.0
        slowest = max(self.load_s.values(), default=0.0)
        return LOSS_PER_SECOND * self.load_s.get(node, slowest) + LOSS_PER_PRICE * share


class Standing(NamedTuple):
    """`refusal` is "" where the pod fits; `rank` is `placement.PARTS` in their order, less is better; `siblings` of the same owner are here."""

    refusal: str
    rank: tuple[float, ...] = ()
    siblings: int = 0


class Ask:
    """One pod's question, with what is the same for every node worked out once."""

    def __init__(self, pod: Pod, requests: tuple[DeviceRequest, ...], worth: Worth, leaning: Leaning) -> None:
        """See `placement.place`."""
        self.pod = pod
        self.requests = requests
        self.worth = worth
        self.leaning = leaning
        self.needs = needs_of(pod)
        owner = owner_of(pod)
        self.owner = "" if owner == pod_key(pod) else owner
        self.leans = bool(leaning.load_s or leaning.price)
        named = any(one.gpus for one in requests)
        self.is_easy = not (pod.spec.node_selector or pod.spec.affinity or self.owner or named)
        self._asker = Asker(self.owner, pod.spec.tolerations)
        self._cpu = self.needs.get("cpu", 0)

    def key(self) -> bytes:
        """Pods with the same key have the same standings everywhere."""
        spec = self.pod.spec
        rules = (spec.affinity or {}).get("nodeAffinity")
        asked = [msgspec.structs.astuple(one)[:-3] for one in self.requests]
        types = [(sorted(one.types), sorted(one.gpus)) for one in self.requests]
        return msgspec.json.encode(
            (
                self.owner,
                self.needs,
                asked,
                types,
                spec.node_selector,
                spec.tolerations,
                rules,
                self.leaning.mig_demand,
            )
        )

    def standing(self, room: NodeRoom) -> Standing:
        """Of one node."""
        siblings = sum(held.owner == self.owner for held in room.held) if self.owner else 0
        if self.is_easy and room.is_open:
            why = insufficient(self.needs, room)
            soft = preferred = 0.0
        else:
            why = refusal(self.pod, self.needs, room)
            soft, preferred = self._soft(room), self._preferred(room)
        if why:
            return Standing(why, siblings=siblings)
        if not self.requests or (not room.gpus and self._is_counted(room)):
            return self._undivided(room, siblings, soft, preferred)
        easy = self._part_loss(room) if self.is_easy and room.kind and len(self.requests) == 1 else None
        if isinstance(easy, str):
            return Standing(easy)
        if easy is not None:
            return Standing("", (soft, 0.0, 0.0, preferred, 0.0, 0.0, easy))
        found = self._rated(room)
        if isinstance(found, str):
            return Standing(found, siblings=siblings)
        (collides, loss), _ = found
        return Standing("", (soft, collides, 0.0, preferred, 0.0, 0.0, loss), siblings)

    def shares(self, room: NodeRoom) -> tuple[Share, ...]:
        """The devices that the pod gets on a node that fits."""
        if not self.requests or not room.gpus:
            return ()
        found = self._rated(room)
        return () if isinstance(found, str) else found[1].shares

    def _rated(self, room: NodeRoom) -> tuple[tuple[float, float], Option] | str:
        found = options(self.requests, room.gpus, self._asker, self.leaning.mig_demand)
        if isinstance(found, str):
            return found
        rated = [
            ((float(bool(self.owner) and option.collides), self._loss(room, option)), option)
            for option in found
        ]
        return min(rated, key=lambda one: one[0])

    def _is_counted(self, room: NodeRoom) -> bool:
        """A node that says how many devices it has and not which: counting is all that can be done."""
        return all(one.resource in room.whole for one in self.requests)

    def _undivided(self, room: NodeRoom, siblings: int, soft: float, preferred: float) -> Standing:
        """No particular devices: least loaded, or on a GPU node where the least GPU is left without cores."""
        has_gpus = bool(room.gpus) or room.whole.get(GPU_RESOURCE, 0) > 0
        if room.gpus:
            loss = self._lost(room, room.divisible)
        else:
            loads = [
                100 * (room.whole[name] - room.free[name] + self.needs.get(name, 0)) // room.whole[name]
                for name in ("cpu", "memory")
                if room.whole.get(name)
            ]
            loss = float(sum(loads))
        off = float(has_gpus and not self.requests)
        return Standing("", (soft, 0.0, 0.0, preferred, off, float(siblings), loss), siblings)

    def _soft(self, room: NodeRoom) -> float:
        taint = untolerated(room.node.spec.taints, self.pod.spec.tolerations, ("PreferNoSchedule",))
        return 0.0 if taint is None else 1.0

    def _preferred(self, room: NodeRoom) -> float:
        return -float(preference(self.pod, room.node)) if self.pod.spec.affinity else 0.0

    def _part_loss(self, room: NodeRoom) -> float | str | None:
        """The usual question answered without making options: one part of a GPU, or whole ones, on a node whose GPUs are alike.

        The loss, or why it does not fit; None where the question is another.
        """
        request = self.requests[0]
        if request.profile or request.is_shared or request.gpus:
            return None
        if request.types and room.kind not in request.types:
            return f"Insufficient {name_of(request)}"
        before = room.divisible
        if request.milli >= WHOLE_MILLI:
            wanted = request.count
            if (
                len(before) < wanted
                or before[-wanted] < WHOLE_MILLI
                or sum(g.is_whole for g in room.gpus) < wanted
            ):
                return f"Insufficient {name_of(request)}"
            return self._lost(room, (0,) * wanted + before[:-wanted])
        if request.count != 1:
            return None
        whole = room.gpus[0].gpu.type.memory_bytes
        memory = request.memory_bytes or whole * request.milli // WHOLE_MILLI
        worth, seen = -1.0, -1
        for gpu in room.gpus:
            free = gpu.free_milli
            if free == seen or gpu.memory_bytes < memory or gpu.milli < request.milli:
                continue
            seen = free
            after = list(before)
            after.remove(free)
            insort(after, min(gpu.milli - request.milli, (gpu.memory_bytes - memory) * WHOLE_MILLI // whole))
            worth = max(worth, self._after(room, tuple(after)))
        return f"Insufficient {name_of(request)}" if seen < 0 else self._before(room) - worth

    def _loss(self, room: NodeRoom, option: Option) -> float:
        return LOSS_PER_MIG_OPTION * option.lost + self._lost(room, divisible(option.left))

    def _lost(self, room: NodeRoom, after: tuple[int, ...]) -> float:
        """What the usual work can no longer use, and a little for what stays empty here."""
        return self._before(room) - self._after(room, after)

    def _before(self, room: NodeRoom) -> float:
        cpu, free = room.free.get("cpu", 0), room.divisible
        kind = room.kind or room.gpus[0].gpu.type.name
        return self.worth.of(kind, cpu, free) + TIGHT_GPU * sum(free) + TIGHT_CPU * cpu

    def _after(self, room: NodeRoom, after: tuple[int, ...]) -> float:
        kind = room.kind or room.gpus[0].gpu.type.name
        return self.worth.of(kind, room.free.get("cpu", 0) - self._cpu, after)


class Standings(Struct):
    """Of all nodes, by their place in the order of the inventory: `fitting` are the ranks of those that fit, `refusals` names and says why of the others.

    They hold for the nodes as they were when `Board` had written down `seen` changes.
    """

    worth: Worth
    seen: int
    of: list[Standing]
    fitting: dict[int, tuple[float, ...]]
    refusals: list[tuple[str, str] | None]

    def enter(self, place: int, name: str, standing: Standing) -> None:
        """Replace what was known of one node."""
        self.of[place] = standing
        if standing.refusal:
            self.refusals[place] = (name, standing.refusal)
            self.fitting.pop(place, None)
        else:
            self.fitting[place] = standing.rank
            self.refusals[place] = None


class Board:
    """Standings that hold as long as the node is the same object (`inventory`: a node that nobody touched is).

    `has_repelling` is false only if no pod that runs keeps others away by anti-affinity.
    """

    def __init__(self) -> None:
        """Empty."""
        self._rooms: list[NodeRoom] = []
        self._residuals: list[tuple[object, ...] | None] = []
        self._changes: list[int] = []
        self._known: dict[bytes, Standings] = {}
        self.has_repelling = False

    def standings(self, ask: Ask, rooms: list[NodeRoom]) -> Standings:
        """Good until the next call."""
        self._notice(rooms)
        key = ask.key()
        known = self._known.get(key)
        if known is None or known.worth is not ask.worth:
            if len(self._known) >= MOST_REMEMBERED:
                del self._known[next(iter(self._known))]
            known = self._known[key] = self._anew(ask)
        for place in set(self._changes[known.seen :]):
            known.enter(place, rooms[place].name, ask.standing(rooms[place]))
        known.seen = len(self._changes)
        return known

    def _notice(self, rooms: list[NodeRoom]) -> None:
        """Write down which nodes are not what they were."""
        if len(rooms) != len(self._rooms) or len(self._changes) > MOST_CHANGES:
            self._known.clear()
            self._changes.clear()
            self._residuals = [_residual(room) for room in rooms]
            self.has_repelling = any(room.repels for room in rooms)
        else:
            changed = list(compress(count(), map(is_not, rooms, self._rooms)))
            for place in changed:
                self._residuals[place] = _residual(rooms[place])
                self.has_repelling = self.has_repelling or rooms[place].repels
            self._changes += changed
        self._rooms = rooms

    def _anew(self, ask: Ask) -> Standings:
        """Nodes that are equally useful to the pod are looked at once."""
        found: list[Standing] = []
        alike: dict[tuple[object, ...] | None, Standing] = {}
        for room, residual in zip(self._rooms, self._residuals, strict=True):
            known = alike.get(residual) if ask.is_easy and residual else None
            if known is None:
                known = alike[residual] = ask.standing(room)
            found.append(known)
        fitting = {place: one.rank for place, one in enumerate(found) if not one.refusal}
        refusals = [
            (room.name, one.refusal) if one.refusal else None
            for room, one in zip(self._rooms, found, strict=True)
        ]
        return Standings(ask.worth, len(self._changes), found, fitting, refusals)


def _residual(room: NodeRoom) -> tuple[object, ...] | None:
    return room.residual if room.is_open and room.kind else None
