"""What does each node offer, and what is left of it?

Everything here is a value: to bind or to release a pod gives a new inventory and leaves the old one as it was, so that a dry run is
`inventory.without(victims)` and nothing has to be rolled back. A node that did not change is the same object in both, which is what lets
placement remember what it found out about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.contracts.devices import DEVICES_ANNOTATION, WHOLE_MILLI, Gpu, Share
from penstock.decide.pod_requests import Units, needs_of, offered
from penstock.kit.hashing import stable_hash
from penstock.resources.claims import claim_key
from penstock.resources.core import Node
from penstock.resources.pod import Pod

NO_GPUS: Mapping[str, tuple[Gpu, ...]] = {}


class GpuRoom(Struct, frozen=True):
    """What is left of one GPU: thousandths of compute, bytes, free memory slices and replicas (bit i is the i-th), compute slices.

    `free_milli` is the scarcer of compute and memory, in thousandths of the whole. `holders` names whose pods hold a part of it, by owner. Nothing is ever below zero: a GPU that is held twice has nothing left.
    """

    gpu: Gpu
    milli: int
    memory_bytes: int
    slices: int
    compute_slices: int
    replicas: int
    free_milli: int
    holders: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nobody holds any of it."""
        return not self.holders


class Held(Struct, frozen=True):
    """A bound pod and what it takes of its node."""

    pod: Pod
    owner: str
    needs: Units
    shares: tuple[Share, ...] = ()


class NodeRoom(Struct, frozen=True):
    """One node: `free` is what is left of each resource in whole units (`pod_requests.Units`), `whole` what there is.

    `divisible` are the free thousandths, in ascending order, of its GPUs that can be had whole or in parts; `kind` is their type, "" where
    they are of several or where some GPUs are otherwise. `is_open` says that the node is ready and keeps nobody away by itself, `repels`
    that a pod is here which keeps others away by anti-affinity. `lot` is drawn from the node's name, for ties.
    """

    node: Node
    whole: Units
    free: Units
    gpus: tuple[GpuRoom, ...] = ()
    held: tuple[Held, ...] = ()
    divisible: tuple[int, ...] = ()
    kind: str = ""
    is_open: bool = False
    repels: bool = False
    lot: int = 0

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.metadata.name

    @property
    def residual(self) -> tuple[object, ...]:
        """What two open nodes have in common that are equally useful to every pod: hashable, whichever of its GPUs is the free one."""
        return self.kind, frozenset(self.free.items()), tuple(sorted(map(_alike, self.gpus)))

    def bound(self, held: Held) -> NodeRoom:
        """With one pod more."""
        free = {**self.free}
        for name, units in held.needs.items():
            free[name] = free.get(name, 0) - units
        repels = self.repels or _repels(held.pod)
        if not held.shares:
            return replace(self, free=free, held=(*self.held, held), repels=repels)
        gpus = taken(self.gpus, self._anew(held))
        return replace(
            self,
            free=free,
            gpus=gpus,
            held=(*self.held, held),
            divisible=divisible(gpus),
            repels=repels,
        )

    def _anew(self, held: Held) -> Held:
        """With what it takes that nobody took yet: not what it only looks at, nor what a claim holds that a pod shares with others here."""
        if not any(share.claim for share in held.shares):
            return held
        there = {
            (claim_key(one.pod, share.claim), share.request, share.device)
            for one in self.held
            for share in one.shares
            if share.claim
        }
        anew = tuple(
            share
            for share in held.shares
            if not share.is_admin
            and (claim_key(held.pod, share.claim), share.request, share.device) not in there
        )
        return replace(held, shares=anew)

    def released(self, is_gone: Callable[[Held], bool]) -> NodeRoom:
        """Without those pods. GPUs are counted anew, because what two pods held together is not known from what is left."""
        kept = [held for held in self.held if not is_gone(held)]
        room = empty_room(self.node, tuple(g.gpu for g in self.gpus), self.whole)
        for held in kept:
            room = room.bound(held)
        return room


class Inventory(Struct, frozen=True):
    """All nodes by name, in the order of their names."""

    rooms: dict[str, NodeRoom]

    def with_(self, pod: Pod, node: str, shares: tuple[Share, ...] = ()) -> Inventory:
        """With the pod bound there, holding these devices. A node that is not known changes nothing."""
        room = self.rooms.get(node)
        if room is None:
            return self
        held = Held(pod, owner_of(pod), needs_of(pod), shares)
        return Inventory({**self.rooms, node: room.bound(held)})

    def without(self, pods: Iterable[Pod]) -> Inventory:
        """As if these pods had ended. Pods that are not bound change nothing."""
        gone = {pod_key(pod): pod.spec.node_name for pod in pods}
        names = set(gone.values()) if all(gone.values()) else set(self.rooms)
        changed = {}
        for name in names & self.rooms.keys():
            room = self.rooms[name]
            if any(pod_key(held.pod) in gone for held in room.held):
                changed[name] = room.released(lambda held: pod_key(held.pod) in gone)
        return Inventory({**self.rooms, **changed}) if changed else self


NOTHING = Inventory({})


def take_stock(
    nodes: Iterable[Node],
    bound: Iterable[Pod],
    gpus: Mapping[str, tuple[Gpu, ...]] = NO_GPUS,
    before: Inventory = NOTHING,
) -> Inventory:
    """The inventory of these nodes. `bound` are all pods that hold a node and have not ended, `gpus` each node's devices.

    A node that is the same object as in `before`, with the same versions of the same pods, is taken from there.
    """
    ordered = sorted(nodes, key=lambda node: node.metadata.name)
    here: dict[str, list[Pod]] = {node.metadata.name: [] for node in ordered}
    for pod in bound:
        if pod.spec.node_name in here:
            here[pod.spec.node_name].append(pod)
    rooms = {}
    for node in ordered:
        name = node.metadata.name
        known, own, pods = before.rooms.get(name), gpus.get(name, ()), here[name]
        rooms[name] = known if known and _is_still(known, node, own, pods) else _room(node, own, pods)
    return Inventory(rooms)


def _room(node: Node, gpus: tuple[Gpu, ...], pods: Iterable[Pod]) -> NodeRoom:
    room = empty_room(node, gpus, offered(node.status.allocatable))
    for pod in pods:
        room = room.bound(Held(pod, owner_of(pod), needs_of(pod), shares_of(pod)))
    return room


def _is_still(room: NodeRoom, node: Node, gpus: tuple[Gpu, ...], pods: list[Pod]) -> bool:
    return (
        room.node is node
        and len(room.held) == len(pods)
        and tuple(one.gpu for one in room.gpus) == gpus
        and {_version(held.pod) for held in room.held} == {_version(pod) for pod in pods}
        and all(pod.metadata.resource_version for pod in pods)
    )


def _version(pod: Pod) -> tuple[str, str, str]:
    return pod_key(pod), pod.metadata.resource_version, pod.spec.node_name


def empty_room(node: Node, gpus: tuple[Gpu, ...], whole: Units) -> NodeRoom:
    """A node on which nothing runs."""
    rooms = tuple(
        GpuRoom(
            gpu,
            WHOLE_MILLI,
            gpu.type.memory_bytes,
            (1 << gpu.type.memory_slices) - 1,
            gpu.type.compute_slices,
            (1 << gpu.sharing.replicas) - 1,
            WHOLE_MILLI,
        )
        for gpu in gpus
    )
    kinds = {gpu.type.name if _is_divisible(gpu) else "" for gpu in gpus}
    return NodeRoom(
        node,
        whole,
        dict(whole),
        rooms,
        divisible=divisible(rooms),
        kind=kinds.pop() if len(kinds) == 1 else "",
        is_open=_is_open(node),
        lot=lot(node.metadata.name),
    )


def lot(name: str) -> int:
    """A number that the name alone decides, the same in every process."""
    return int(stable_hash(name)[:15], 16)


def divisible(rooms: tuple[GpuRoom, ...]) -> tuple[int, ...]:
    """The free thousandths, in ascending order, of GPUs that can be had whole or in parts."""
    return tuple(sorted([room.free_milli for room in rooms if _is_divisible(room.gpu)]))


def _is_divisible(gpu: Gpu) -> bool:
    return not (gpu.is_mig or gpu.taints or gpu.sharing.strategy)


def _is_open(node: Node) -> bool:
    is_ready = any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)
    return is_ready and not node.spec.unschedulable and not node.spec.taints


def _alike(room: GpuRoom) -> tuple[object, ...]:
    return (
        room.gpu.type.name, room.milli, room.memory_bytes, room.slices, room.compute_slices,
        room.replicas.bit_count(), room.is_whole,
    )  # fmt: skip


def taken(gpus: tuple[GpuRoom, ...], held: Held) -> tuple[GpuRoom, ...]:
    """What is left of these GPUs when the pod has its shares."""
    if not held.shares:
        return gpus
    mine: dict[str, list[Share]] = {}
    for share in held.shares:
        mine.setdefault(share.gpu, []).append(share)
    return tuple(
        less(room, mine[room.gpu.uuid], held.owner) if room.gpu.uuid in mine else room for room in gpus
    )


def less(room: GpuRoom, shares: Iterable[Share], owner: str) -> GpuRoom:
    """What these shares leave of one GPU. A share that names neither bytes nor a profile takes memory as it takes compute, unless time-sliced."""
    milli, memory, slices = room.milli, room.memory_bytes, room.slices
    compute, replicas = room.compute_slices, room.replicas
    for share in shares:
        milli -= share.milli
        profile = next((p for p in room.gpu.type.profiles if p.name == share.profile), None)
        if profile is not None and share.start >= 0:
            slices &= ~(((1 << profile.memory_slices) - 1) << share.start)
            compute -= profile.compute_slices
            milli -= WHOLE_MILLI * profile.compute_slices // max(1, room.gpu.type.compute_slices)
        elif share.replica >= 0:
            replicas &= ~(1 << share.replica)
        else:
            slices, replicas = 0, 0
        memory -= share.memory_bytes or (
            0
            if share.profile or share.replica >= 0
            else room.gpu.type.memory_bytes * share.milli // WHOLE_MILLI
        )
    milli, memory = max(0, milli), max(0, memory)
    free = min(milli, memory * WHOLE_MILLI // max(1, room.gpu.type.memory_bytes))
    holders = (*room.holders, owner)
    return GpuRoom(room.gpu, milli, memory, slices, max(0, compute), replicas, free, holders)


def _repels(pod: Pod) -> bool:
    return bool(pod.spec.affinity and pod.spec.affinity.get("podAntiAffinity"))


def shares_of(pod: Pod) -> tuple[Share, ...]:
    """The devices that the pod was given when it was bound. What cannot be read is nobody's: the kubelet refuses such a pod."""
    text = pod.metadata.annotations.get(DEVICES_ANNOTATION)
    if not text:
        return ()
    try:
        return msgspec.json.decode(text, type=tuple[Share, ...])
    except msgspec.DecodeError:
        return ()


def owner_of(pod: Pod) -> str:
    """Who owns the pod: its controller's uid, or itself."""
    owners = pod.metadata.owner_references
    return next((o.uid for o in owners if o.controller), owners[0].uid if owners else pod_key(pod))


def pod_key(pod: Pod) -> str:
    """What tells pods apart."""
    return pod.metadata.uid or f"{pod.metadata.namespace}/{pod.metadata.name}"
