"""Which nodes do all the pods of a gang get, or none of them?

A gang is pods that are of no use alone: the ranks of one training job, the processes of one engine on several nodes. They carry the label
`penstock.dev/gang` (or the annotation) and say in the annotation `penstock.dev/gang-size` how many they are; the pods of one group of a
LeaderWorkerSet are a gang by their own labels. Nobody gets a node before all can; the
smallest domain that has room for all is taken, because they talk to each other: one node, then one rack, zone, region, then anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from penstock.contracts.devices import DeviceRequest
from penstock.decide.inventory import Inventory
from penstock.decide.placement import Placement
from penstock.resources.pod import Pod

GANG = "penstock.dev/gang"
GANG_SIZE = "penstock.dev/gang-size"
GROUP, GROUP_SIZE = (f"leaderworkerset.sigs.k8s.io/{word}" for word in ("group-key", "size"))
"""The label and the annotation of a LeaderWorkerSet's pods."""
DOMAINS = (
    "kubernetes.io/hostname",
    "topology.kubernetes.io/rack",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
)
MOST_TRIED = 256
"""Domains of one level that are tried, those with most free GPUs first."""
Placer = Callable[[Pod, Inventory, tuple[DeviceRequest, ...]], Placement]


class Gang(NamedTuple):
    """Gangs are told apart by namespace and name; `size` pods belong to each."""

    namespace: str
    name: str
    size: int


class Member(NamedTuple):
    """A pod without a node, and the devices that it asks for."""

    pod: Pod
    requests: tuple[DeviceRequest, ...] = ()


class GangPlacement(NamedTuple):
    """One placement for each member in their order, or none and why; `domain` is the label and value that they have in common, "" for none."""

    placements: tuple[Placement, ...]
    message: str
    domain: str = ""


def gang_of(pod: Pod) -> Gang | None:
    """The gang that the pod belongs to. A size that is no number above zero makes a gang of one, which never waits."""
    meta = pod.metadata
    name = meta.labels.get(GANG) or meta.annotations.get(GANG)
    size = meta.annotations.get(GANG_SIZE) or meta.labels.get(GANG_SIZE) or "1"
    if not name:
        name, size = meta.labels.get(GROUP), meta.annotations.get(GROUP_SIZE, "1")
    if not name:
        return None
    return Gang(meta.namespace, name, int(size) if size.isdecimal() and int(size) > 0 else 1)


def missing(gang: Gang, members: int) -> str:
    """What the gang waits for while some of its pods do not exist yet, or ""."""
    return (
        ""
        if members >= gang.size
        else f"gang {gang.name} waits for all of its pods: {members} of {gang.size} are there"
    )


def place_gang(members: Sequence[Member], inventory: Inventory, place: Placer) -> GangPlacement:
    """All of them, in the smallest domain where all fit, and of equal ones the one that loses least."""
    for key in DOMAINS:
        found = []
        for value, part in _parts(inventory, key)[:MOST_TRIED]:
            placements, _ = _all(members, part, place)
            if placements:
                loss = sum(value for one in placements for name, value in one.parts if name == "loss")
                found.append((loss, value, placements))
        if found:
            _, value, placements = min(found, key=lambda one: one[:2])
            return GangPlacement(
                placements, f"all {len(members)} pods within {key}={value}", f"{key}={value}"
            )
    placements, why = _all(members, inventory, place)
    return GangPlacement(placements, why or f"all {len(members)} pods, in no common domain")


def _all(members: Iterable[Member], inventory: Inventory, place: Placer) -> tuple[tuple[Placement, ...], str]:
    """One after the other on what the ones before leave; nothing, and why, if one finds no node."""
    found: list[Placement] = []
    for number, (pod, requests) in enumerate(members, 1):
        placement = place(pod, inventory, requests)
        if not placement.node:
            why = f"{placement.message} {placement.hint}".strip()
            return (), f"only {number - 1} pods of the gang find a node together; {pod.metadata.name}: {why}"
        inventory = inventory.with_(pod, placement.node, placement.shares)
        found.append(placement)
    return tuple(found), ""


def _parts(inventory: Inventory, key: str) -> list[tuple[str, Inventory]]:
    """The domains of one level, those with most free GPUs first."""
    names: dict[str, list[str]] = {}
    for name, room in inventory.rooms.items():
        value = room.node.metadata.labels.get(key)
        if value is not None:
            names.setdefault(value, []).append(name)
    free = {value: sum(sum(inventory.rooms[n].divisible) for n in some) for value, some in names.items()}
    ordered = sorted(names, key=lambda value: (-free[value], value))
    return [(value, Inventory({n: inventory.rooms[n] for n in names[value]})) for value in ordered]
