"""How does one node stand for this pod: refused, or how good, with which devices?

What depends on this node alone, so that it can be remembered: `Board` keeps the standings of nodes that have not changed since, and a
decision among thousands looks only at the few that have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from penstock.contracts.devices import GPU_RESOURCE, DeviceRequest, Share
from penstock.decide.device_fit import Asker, Option, options
from penstock.decide.fragmentation import Worth, free_of
from penstock.decide.inventory import NodeRoom, owner_of, pod_key
from penstock.decide.mig_start import NO_DEMAND, Demand
from penstock.decide.node_rules import preference, refusal
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
    shares: tuple[Share, ...] = ()
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
        self._asker = Asker(self.owner, pod.spec.tolerations)

    def key(self) -> bytes:
        """Pods with the same key have the same standings everywhere."""
        spec = self.pod.spec
        asked = [
            (r.container, r.resource, r.count, r.milli, r.memory_bytes, r.profile, sorted(r.types))
            for r in self.requests
        ]
        rules = (spec.affinity or {}).get("nodeAffinity")
        return msgspec.json.encode(
            (
                self.owner,
                self.needs,
                asked,
                spec.node_selector,
                spec.tolerations,
                rules,
                self.leaning.mig_demand,
            )
        )

    def standing(self, room: NodeRoom) -> Standing:
        """Of one node."""
        siblings = sum(held.owner == self.owner for held in room.held) if self.owner else 0
        if why := refusal(self.pod, self.needs, room):
            return Standing(why, siblings=siblings)
        if not self.requests or (not room.gpus and self._is_counted(room)):
            return self._undivided(room, siblings)
        found = options(self.requests, room.gpus, self._asker, self.leaning.mig_demand)
        if isinstance(found, str):
            return Standing(found, siblings=siblings)
        rated = [(self._rank(room, option, siblings), option) for option in found]
        rank, option = min(rated, key=lambda one: one[0])
        return Standing("", rank, option.shares, siblings)

    def _is_counted(self, room: NodeRoom) -> bool:
        """A node that says how many devices it has and not which: counting is all that can be done."""
        return all(one.resource in room.whole for one in self.requests)

    def _undivided(self, room: NodeRoom, siblings: int) -> Standing:
        """No particular devices: least loaded, or on a GPU node where the least GPU is left without cores."""
        has_gpus = bool(room.gpus) or room.whole.get(GPU_RESOURCE, 0) > 0
        if room.gpus:
            loss = self._loss(room, Option((), room.gpus))
        else:
            loads = [
                100 * (room.whole[name] - room.free[name] + self.needs.get(name, 0)) // room.whole[name]
                for name in ("cpu", "memory")
                if room.whole.get(name)
            ]
            loss = float(sum(loads))
        off = float(has_gpus and not self.requests)
        return Standing(
            "", (self._soft(room), 0.0, 0.0, self._preferred(room), off, float(siblings), loss), (), siblings
        )

    def _rank(self, room: NodeRoom, option: Option, siblings: int) -> tuple[float, ...]:
        collides = float(bool(self.owner) and option.collides)
        return self._soft(room), collides, 0.0, self._preferred(room), 0.0, 0.0, self._loss(room, option)

    def _soft(self, room: NodeRoom) -> float:
        taint = untolerated(room.node.spec.taints, self.pod.spec.tolerations, ("PreferNoSchedule",))
        return 0.0 if taint is None else 1.0

    def _preferred(self, room: NodeRoom) -> float:
        return -float(preference(self.pod, room.node)) if self.pod.spec.affinity else 0.0

    def _loss(self, room: NodeRoom, option: Option) -> float:
        """What the usual work can no longer use, beyond what this pod takes; and a little for what stays empty here."""
        cpu = room.free.get("cpu", 0)
        before = free_of(room.gpus)
        after = free_of(option.left) if option.shares else before
        kind = room.gpus[0].gpu.type.name
        value = self.worth.of
        lost = value(kind, cpu, before) - value(kind, cpu - self.needs.get("cpu", 0), after)
        return lost + LOSS_PER_MIG_OPTION * option.lost + TIGHT_GPU * sum(before) + TIGHT_CPU * cpu


class Board:
    """Standings that hold as long as the node is the same object (`inventory`: a node that nobody touched is)."""

    def __init__(self) -> None:
        """Empty."""
        self._known: dict[tuple[bytes, int], tuple[Worth, list[NodeRoom], list[Standing]]] = {}

    def standings(self, ask: Ask, rooms: list[NodeRoom]) -> list[Standing]:
        """One for each room, in their order."""
        key = ask.key(), id(ask.worth)
        known = self._known.get(key)
        if known is None or known[0] is not ask.worth or len(known[1]) != len(rooms):
            found = self._anew(ask, rooms)
            if len(self._known) >= MOST_REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = (ask.worth, rooms, found)
            return found
        _, seen, found = known
        for place, (room, last) in enumerate(zip(rooms, seen, strict=True)):
            if room is not last:
                found[place] = ask.standing(room)
        self._known[key] = (ask.worth, rooms, found)
        return found

    @staticmethod
    def _anew(ask: Ask, rooms: list[NodeRoom]) -> list[Standing]:
        """Nodes that are alike in all that counts are looked at once, when nothing runs on them yet."""
        return [ask.standing(room) for room in rooms]
