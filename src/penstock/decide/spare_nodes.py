"""Which nodes are not needed any more?

A node can go when for a while no more than half of it was in use and every pod on it has a proven place on the nodes that stay, each counted with
those before it. The dearest goes first. Pods that nobody would make anew keep their node, and so do those that say so in the words of
Cluster Autoscaler or Karpenter; pods of a DaemonSet go with it. One node always stays.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from penstock.contracts.devices import GPU_RESOURCE, WHOLE_MILLI, DeviceRequest
from penstock.decide.gang import Placer, gang_of
from penstock.decide.inventory import Inventory, NodeRoom
from penstock.decide.prices import Quote
from penstock.resources.pod import Pod

MOST_USED = 0.5
AFTER_S = 600.0
"""As Cluster Autoscaler has it: half of a node, for ten minutes."""
KEEPS = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
Requests = Mapping[str, tuple[DeviceRequest, ...] | str]
"""What each pod asks for, by its uid; a text says why it can have nothing."""


class Spare(Struct, frozen=True, kw_only=True):
    """`go` are the nodes that can go, `kept` others that are hardly used and why they stay, `since` when each such node was first seen so (s)."""

    go: tuple[str, ...]
    kept: tuple[tuple[str, str], ...]
    since: Mapping[str, float]


def spare(
    inventory: Inventory,
    since: Mapping[str, float],
    now: float,
    place: Placer,
    requests: Requests,
    quotes: Mapping[str, Quote],
) -> Spare:
    """`since` is that of the answer before, `quotes` what nodes cost."""
    hardly = {name: room for name, room in inventory.rooms.items() if use(room) <= MOST_USED}
    seen = {name: min(since.get(name, now), now) for name in hardly}
    go: list[str] = []
    kept: list[tuple[str, str]] = []
    for name in sorted(hardly, key=lambda name: (-_price(quotes, name), use(hardly[name]), name)):
        left_s = seen[name] + AFTER_S - now
        if left_s > 0:
            kept.append((name, f"hardly used for {now - seen[name]:.0f} s, goes after {AFTER_S:.0f} s"))
            continue
        rest = _without(name, inventory, place, requests)
        if isinstance(rest, str):
            kept.append((name, rest))
        else:
            go.append(name)
            inventory = rest
    return Spare(go=tuple(go), kept=tuple(kept), since=seen)


def use(room: NodeRoom) -> float:
    """How much of the node is held, from 0 to 1: of its GPUs if it has some, else of CPU or memory, whichever is more."""
    if room.gpus:
        return 1 - sum(gpu.free_milli for gpu in room.gpus) / (WHOLE_MILLI * len(room.gpus))
    counted = (GPU_RESOURCE,) if room.whole.get(GPU_RESOURCE, 0) > 0 else ("cpu", "memory")
    parts = [1 - room.free.get(name, 0) / room.whole[name] for name in counted if room.whole.get(name, 0)]
    return max(parts, default=0.0)


def _without(name: str, inventory: Inventory, place: Placer, requests: Requests) -> Inventory | str:
    """What there is when the node is gone and its pods are elsewhere, or why it stays."""
    rest = Inventory({other: room for other, room in inventory.rooms.items() if other != name})
    if not rest.rooms:
        return "the only node that is left"
    for held in inventory.rooms[name].held:
        pod = held.pod
        who = f"{pod.metadata.namespace}/{pod.metadata.name}"
        if any(owner.kind == "DaemonSet" for owner in pod.metadata.owner_references):
            continue
        if why := _is_bound_here(pod):
            return f"{who} {why}"
        wanted = requests.get(pod.metadata.uid, ())
        if isinstance(wanted, str):
            return f"{who}: {wanted}"
        free = replace(pod, spec=replace(pod.spec, node_name=""))
        found = place(free, rest, wanted)
        if not found.node:
            return f"{who} finds no room elsewhere: {found.message}"
        rest = rest.with_(free, found.node, found.shares)
    return rest


def _is_bound_here(pod: Pod) -> str:
    """Why the pod must not be moved, or ""."""
    for key, value in KEEPS.items():
        if pod.metadata.annotations.get(key) == value:
            return f"says {key}: {value}"
    if not any(owner.controller for owner in pod.metadata.owner_references):
        return "has no controller that would make it anew"
    gang = gang_of(pod)
    return "is of a gang" if gang and gang.size > 1 else ""


def _price(quotes: Mapping[str, Quote], name: str) -> int:
    quote = quotes.get(name)
    return (quote.usd_micros or 0) if quote else 0
