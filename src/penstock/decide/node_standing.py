"""How does one node stand for this pod: refused, or how good, with which devices?

What depends on this node alone, so that it can be remembered (`board`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from penstock.contracts.devices import GPU_RESOURCE, DeviceRequest, Share
from penstock.decide.claim_fit import fitting
from penstock.decide.device_fit import Asker, Option, name_of
from penstock.decide.fragmentation import Worth
from penstock.decide.gpu_state import DIGITS, GpuState, Taking, is_usual, standing_worth
from penstock.decide.inventory import NodeRoom, divisible, owner_of, pod_key
from penstock.decide.mig_start import NO_DEMAND, Demand
from penstock.decide.node_rules import barred, insufficient, preference
from penstock.decide.pod_requests import needs_of
from penstock.decide.tolerations import untolerated
from penstock.resources.core import Node
from penstock.resources.pod import Pod

LOSS_PER_MIG_OPTION = 10.0
LOSS_PER_SECOND = 5.0
"""A second of loading weights counts as much as so many thousandths of a GPU that others lose."""
LOSS_PER_PRICE = 50.0
"""The dearest node's price counts as much as so many thousandths; the others' in proportion."""

Tier = tuple[float, ...]
"""`placement.PARTS` in their order without the last, which is the loss; less is better."""
Fit = tuple[Tier, float]
"""A node that fits: its tier and the loss."""


class Leaning(Struct, frozen=True):
    """What may be known beside the nodes: seconds to load the pod's weights and price (any unit) by node name, demand for MIG profiles."""

    load_s: Mapping[str, float] = field(default_factory=dict)
    price: Mapping[str, float] = field(default_factory=dict)
    mig_demand: Demand = NO_DEMAND

    def losses(self, nodes: list[str]) -> list[float]:
        """What load time and price of each of these nodes add to the loss. What is not known of a node is as of the worst."""
        dearest = max(self.price.values(), default=0.0)
        slowest = max(self.load_s.values(), default=0.0)
        per_price = LOSS_PER_PRICE / dearest if dearest else 0.0
        return [
            LOSS_PER_SECOND * self.load_s.get(node, slowest) + per_price * self.price.get(node, dearest)
            for node in nodes
        ]


class Barrier(NamedTuple):
    """What the node says to the pod whatever runs there: why it may not come, or how welcome it is."""

    node: Node
    why: str = ""
    soft: float = 0.0
    preferred: float = 0.0

    def tier(self, *, collides: bool = False, off: bool = False, siblings: int = 0) -> Tier:
        """`off` is for a pod without GPUs on a node with some."""
        return self.soft, float(collides), 0.0, self.preferred, float(off), float(siblings)


OPEN, OPEN_OFF = Barrier(Node()).tier(), Barrier(Node()).tier(off=True)


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
        self.is_easy = not (pod.spec.node_selector or pod.spec.affinity)
        self._asker = Asker(self.owner, pod.spec.tolerations)
        self._nobody = Asker("", pod.spec.tolerations)
        self._cpu = self.needs.get("cpu", 0)
        self._one = requests[0] if len(requests) == 1 and is_usual(requests[0]) else None
        self.types = self._one.types if self._one else frozenset[str]()
        part = (self._one.count, self._one.milli, self._one.memory_bytes) if self._one else ()
        self.taking = Taking(self._cpu, *part)
        self.is_usual = not requests or self._one is not None
        self.is_plain = self.is_easy and self.is_usual
        self.short = f"Insufficient {name_of(self._one)}" if self._one else ""

    def key(self) -> bytes:
        """Pods with the same key have the same standings on all nodes without pods of their owners."""
        spec = self.pod.spec
        rules = (spec.affinity or {}).get("nodeAffinity")
        asked = [msgspec.structs.replace(one, types=frozenset()) for one in self.requests]
        types = [sorted(one.types) for one in self.requests]
        demand = self.leaning.mig_demand if any(one.profile for one in self.requests) else NO_DEMAND
        return msgspec.json.encode(
            (
                self.needs,
                asked,
                types,
                spec.node_selector,
                spec.tolerations,
                rules,
                demand,
            )
        )

    def barrier(self, node: Node) -> Barrier:
        """Of one node, for as long as the node says the same."""
        why = barred(self.pod, node)
        soft = untolerated(node.spec.taints, self.pod.spec.tolerations, ("PreferNoSchedule",)) is not None
        preferred = -float(preference(self.pod, node)) if self.pod.spec.affinity else 0.0
        return Barrier(node, why, float(soft), preferred)

    def standing(self, room: NodeRoom, state: GpuState | None, barrier: Barrier | None) -> Fit | str:
        """Of one node on which there is no pod of the same owner: why not, or how well. `barrier` None means that the node keeps nobody away."""
        if state is None or not self.is_usual:
            return self.standing_among(room, barrier or Barrier(room.node), 0)
        why = (barrier.why if barrier else "") or insufficient(self.needs, room)
        if why:
            return why
        if self.types and state.kind not in self.types:
            return self.short
        loss = state.loss(self.worth, self.taking)
        if loss == inf:
            return self.short
        off = self._one is None
        return barrier.tier(off=off) if barrier else OPEN_OFF if off else OPEN, loss

    def standing_among(self, room: NodeRoom, barrier: Barrier, siblings: int) -> Fit | str:
        """Of any node; so many pods of the same owner are there."""
        why = barrier.why or insufficient(self.needs, room)
        if why:
            return why
        if not self.requests or (not room.gpus and self._is_counted(room)):
            return self._undivided(room, barrier, siblings)
        found = self._rated(room, self._asker if siblings else self._nobody)
        if isinstance(found, str):
            return found
        (collides, loss), _ = found
        return barrier.tier(collides=collides), loss

    def shares(self, room: NodeRoom) -> tuple[Share, ...]:
        """The devices that the pod gets on a node that fits."""
        if not self.requests or not room.gpus:
            return ()
        found = self._rated(room, self._asker)
        return () if isinstance(found, str) else found[1].shares

    def _rated(self, room: NodeRoom, asker: Asker) -> tuple[tuple[bool, float], Option] | str:
        found = fitting(self.requests, room.gpus, asker, self.leaning.mig_demand)
        if isinstance(found, str):
            return found
        rated = [((bool(asker.owner) and one.collides, self._loss(room, one)), one) for one in found]
        return min(rated, key=lambda one: one[0])

    def _is_counted(self, room: NodeRoom) -> bool:
        """A node that says how many devices it has and not which: counting is all that can be done."""
        return all(one.resource in room.whole for one in self.requests)

    def _undivided(self, room: NodeRoom, barrier: Barrier, siblings: int) -> Fit:
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
        return barrier.tier(off=has_gpus and not self.requests, siblings=siblings), loss

    def _loss(self, room: NodeRoom, option: Option) -> float:
        return self._lost(room, divisible(option.left)) + round(LOSS_PER_MIG_OPTION * option.lost, DIGITS)

    def _lost(self, room: NodeRoom, after: tuple[int, ...]) -> float:
        """What the usual work can no longer use, and a little for what stays empty here."""
        kind, cpu = room.kind or room.gpus[0].gpu.type.name, room.free.get("cpu", 0)
        before = standing_worth(self.worth, kind, cpu, room.divisible)
        return round(before - self.worth.of(kind, cpu - self._cpu, after), DIGITS)
