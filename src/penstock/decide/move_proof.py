"""Has every pod that would move a home, and does who waits get the room?

One after the other, each on what those before it left, in the order in which it would happen: successors of servers are placed while those still run,
then what moves is gone, the one that waits takes its place, and training goes on where room is left. Nothing is bound: inventories are values.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from penstock.contracts.devices import DEVICES_ANNOTATION
from penstock.decide.gang import Member, Placer, place_gang
from penstock.decide.inventory import Inventory, NodeRoom, owner_of
from penstock.decide.movable import Movable
from penstock.decide.placement import ZONE, Placement
from penstock.decide.spare_nodes import Requests
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod

SHARES_A_GPU = "shares a GPU with a sibling"
"""The part of a placement (`placement.PARTS`) that says so."""


class Proof(Struct, frozen=True):
    """`homes` are the nodes of the pods of each unit, in the order that was asked; `after` is the inventory when all is done."""

    homes: tuple[tuple[str, ...], ...]
    after: Inventory


class Failed(Struct, frozen=True):
    """`unit` is at fault, "" for none: then those that wait do not get the room."""

    unit: str
    why: str


def prove(
    moves: Sequence[Movable],
    waiting: Sequence[Member],
    stock: Inventory,
    requests: Requests,
    place: Placer,
    *,
    keep_free: frozenset[str] = frozenset(),
) -> Proof | Failed:
    """`waiting` are the pods for which room is made, all or none of them; on nodes in `keep_free` no server gets its home."""
    before, homes = stock, dict[str, tuple[str, ...]]()
    for move in sorted((one for one in moves if one.way == "Surge"), key=_largest_first):
        closed = Inventory({name: _full(stock, name, keep_free) for name in stock.rooms})
        found = _settle(move, stock, closed, requests, place)
        if isinstance(found, Failed):
            return found
        homes[move.unit.name], stock = found
    stock = stock.without(pod for move in moves for pod in move.unit.pods)
    for move in moves:
        if move.way == "Surge" and _domains(stock, move) < min(2, _domains(before, move)):
            return Failed(move.unit.name, "all of its replicas would be in one failure domain")
    taken = _taken(waiting, stock, place)
    if isinstance(taken, str):
        return Failed("", taken)
    stock = taken
    for move in sorted((one for one in moves if one.way == "Checkpoint"), key=_largest_first):
        found = _settle(move, stock, stock, requests, place)
        if isinstance(found, Failed):
            return found
        homes[move.unit.name], stock = found
    return Proof(tuple(homes[move.unit.name] for move in moves), stock)


def _settle(
    move: Movable, stock: Inventory, open_: Inventory, requests: Requests, place: Placer
) -> tuple[tuple[str, ...], Inventory] | Failed:
    """The homes of one unit, and what they leave. It may go where `open_` has room."""
    members = []
    for pod in move.unit.pods:
        wanted = requests.get(pod.metadata.uid, ())
        if isinstance(wanted, str):
            return Failed(move.unit.name, wanted)
        members.append(Member(successor(pod), wanted))
    placements, why = _places(members, open_, place)
    if not placements:
        return Failed(move.unit.name, f"it has no home elsewhere: {why}")
    if any(name == SHARES_A_GPU and value for one in placements for name, value in one.parts):
        return Failed(move.unit.name, "it would share a GPU with another of its replicas")
    for member, found in zip(members, placements, strict=True):
        stock = stock.with_(member.pod, found.node, found.shares)
    return tuple(found.node for found in placements), stock


def _taken(waiting: Sequence[Member], stock: Inventory, place: Placer) -> Inventory | str:
    """What is left when those that wait have their places, or why they have none."""
    placements, why = _places(waiting, stock, place) if waiting else ((), "")
    if waiting and not placements:
        return why
    for member, found in zip(waiting, placements, strict=True):
        stock = stock.with_(member.pod, found.node, found.shares)
    return stock


def _places(members: Sequence[Member], stock: Inventory, place: Placer) -> tuple[tuple[Placement, ...], str]:
    """All of them or none, and why."""
    if len(members) > 1:
        found = place_gang(members, stock, place)
        return found.placements, found.message
    one = place(members[0].pod, stock, members[0].requests)
    return ((one,), "") if one.node else ((), one.message)


def successor(pod: Pod) -> Pod:
    """The pod that its controller would make anew: without a node, devices, and with a name of its own."""
    meta = pod.metadata
    kept = {key: value for key, value in meta.annotations.items() if key != DEVICES_ANNOTATION}
    fresh = ObjectMeta(
        name=f"{meta.name}-next",
        namespace=meta.namespace,
        labels=meta.labels,
        annotations=kept,
        owner_references=meta.owner_references,
    )
    return replace(pod, metadata=fresh, spec=replace(pod.spec, node_name=""))


def _full(stock: Inventory, name: str, closed: frozenset[str]) -> NodeRoom:
    room = stock.rooms[name]
    return replace(room, free=dict.fromkeys(room.free, 0)) if name in closed else room


def _domains(stock: Inventory, move: Movable) -> int:
    """In how many failure domains the replicas of the unit's owner are."""
    owner = owner_of(move.unit.pods[0])
    nodes = [room.node for room in stock.rooms.values() if any(held.owner == owner for held in room.held)]
    return len({node.metadata.labels.get(ZONE, node.metadata.name) for node in nodes})


def _largest_first(move: Movable) -> tuple[float, str]:
    return -move.unit.gpus, move.unit.name
