"""Which node and which devices does this pod get?

Filters as kube-scheduler's, first failing check named per node, in its words. Then, of the nodes that fit:

- a pod that asks for GPUs goes where the usual work loses least (`fragmentation`), its replicas on at least two failure domains and never two
  on one GPU where another is free; the time to load its weights and the node's price weigh in where they are known;
- any other pod goes to the node that is least loaded and holds fewest of its siblings, away from GPUs where there is another.

Ties go by a hash of stable names.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from penstock.contracts.devices import DeviceRequest, Share
from penstock.decide.device_fit import name_of, nearest_miss
from penstock.decide.fragmentation import Mix, Worth
from penstock.decide.inventory import Inventory, NodeRoom, lot, pod_key
from penstock.decide.node_rules import short_of
from penstock.decide.node_standing import Ask, Board, Leaning, Standings
from penstock.decide.pod_requests import quantity_of
from penstock.decide.pod_rules import has_rules, judge
from penstock.kit.quantity import format_quantity
from penstock.resources.pod import Pod

ZONE = "topology.kubernetes.io/zone"
NO_WISH = Leaning()
NO_MIX = Worth(Mix())
Rank = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """`node` is "" when no node fits; `message` says why in kube-scheduler's words, `hint` the smallest change that helps.

    `shares` are the devices that the pod gets there, `parts` what the choice was made by: less is better in each.
    """

    node: str
    message: str
    refusals: tuple[tuple[str, str], ...] = ()
    runner_up: str = ""
    hint: str = ""
    shares: tuple[Share, ...] = ()
    parts: tuple[tuple[str, float], ...] = ()


def place(
    pod: Pod,
    inventory: Inventory,
    requests: tuple[DeviceRequest, ...] = (),
    *,
    worth: Worth = NO_MIX,
    leaning: Leaning = NO_WISH,
    board: Board | None = None,
) -> Placement:
    """`requests` are the devices that the pod asks for, `worth` what GPUs are worth to the usual work.

    A `board` that is passed again remembers what was found out about nodes that have not changed; the answer is the same without.
    """
    ask = Ask(pod, requests, worth, leaning)
    names, rooms = list(inventory.rooms), list(inventory.rooms.values())
    board = board or Board()
    standings = board.standings(ask, rooms)
    refused = judge(pod, rooms).refusals if has_rules(pod) or board.has_repelling else {}
    refusals = _refusals(standings, refused)
    ranks = _ranks(ask, rooms, standings, refused)
    if not ranks:
        return Placement("", _explain(refusals, len(rooms)), refusals, hint=_hint(ask, rooms, standings))
    best = min(ranks.values())
    equal = [place for place, rank in ranks.items() if rank == best]
    chosen = _drawn(pod, equal, rooms)
    runner_up = _next_best(ranks, equal, chosen, names)
    count = len(ranks)
    how = "least fragmenting" if requests else "least loaded"
    message = f"{how} of {count} fitting nodes" if runner_up else "the only node that fits"
    parts = tuple(zip(PARTS, best, strict=True))
    return Placement(names[chosen], message, refusals, runner_up, "", ask.shares(rooms[chosen]), parts)


PARTS = (
    "soft taint",
    "shares a GPU with a sibling",
    "no second domain",
    "preference",
    "GPU node",
    "siblings",
    "loss",
)
"""What ranks are made of, most important first; `loss` is thousandths of a GPU, or percent of load where no GPU is at stake."""


def _ranks(ask: Ask, rooms: list[NodeRoom], standings: Standings, refused: dict[str, str]) -> dict[int, Rank]:
    """Of each node that fits, by its place in `rooms`."""
    if not (ask.owner or refused or ask.leans or has_rules(ask.pod)):
        return standings.fitting
    preferences = judge(ask.pod, rooms).preferences if has_rules(ask.pod) else {}
    by_zone = len({room.node.metadata.labels.get(ZONE) for room in rooms}) > 1
    crowded = _crowded(ask, rooms, standings, by_zone)
    ranks: dict[int, Rank] = {}
    for place, rank in standings.fitting.items():
        name = rooms[place].name
        if name in refused:
            continue
        soft, collides, _, preferred, gpu_node, siblings, loss = rank
        ranks[place] = (
            soft, collides, float(crowded == _domain(rooms[place], by_zone)), preferred - preferences.get(name, 0.0),
            gpu_node, siblings, loss + ask.leaning.loss(name),
        )  # fmt: skip
    return ranks


def _next_best(ranks: dict[int, Rank], equal: list[int], chosen: int, names: list[str]) -> str:
    if len(equal) > 1:
        return names[min(place for place in equal if place != chosen)]
    others = ranks.copy()
    del others[chosen]
    if not others:
        return ""
    best = min(others.values())
    return names[min([place for place, rank in others.items() if rank == best])]


def _crowded(ask: Ask, rooms: list[NodeRoom], standings: Standings, by_zone: bool) -> str | None:
    """The only failure domain (zone, or node where there are no zones) on which all of the owner's pods that ask for GPUs are."""
    if not ask.requests:
        return None
    domains = {_domain(room, by_zone) for room, one in zip(rooms, standings.of, strict=True) if one.siblings}
    return domains.pop() if len(domains) == 1 else None


def _domain(room: NodeRoom, by_zone: bool) -> str:
    return room.node.metadata.labels.get(ZONE, "") if by_zone else room.name


def _refusals(standings: Standings, refused: dict[str, str]) -> tuple[tuple[str, str], ...]:
    own = tuple(filter(None, standings.refusals))
    return tuple(sorted({**refused, **dict(own)}.items())) if refused else own


def _drawn(pod: Pod, places: list[int], rooms: list[NodeRoom]) -> int:
    """The lot that falls to this pod: the same in every process, another for another pod."""
    if len(places) == 1:
        return places[0]
    own = lot(pod_key(pod))
    return min(places, key=lambda place: rooms[place].lot ^ own)


def _explain(refusals: tuple[tuple[str, str], ...], nodes: int) -> str:
    counts = Counter(reason for _, reason in refusals)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return f"0/{nodes} nodes are available: {reasons}." if reasons else "0/0 nodes are available."


def _hint(ask: Ask, rooms: list[NodeRoom], standings: Standings) -> str:
    """The shortage that is smallest on the node where the least is missing."""
    best: tuple[int, str] | None = None
    for room in rooms:
        short = short_of(ask.needs, room)
        if short and (best is None or len(short) < best[0]):
            missing = " and ".join(
                f"{format_quantity(quantity_of(name, units))} {name}" for name, units in sorted(short.items())
            )
            best = (len(short), f"node {room.name} lacks {missing}: free it, or request less")
    if device := _device_hint(ask, rooms, standings):
        return device
    if best is not None:
        return best[1]
    return (
        "add a node, or relax the pod's nodeSelector, affinity or tolerations"
        if rooms
        else "there is no node"
    )


def _device_hint(ask: Ask, rooms: list[NodeRoom], standings: Standings) -> str:
    """Of the nodes where all but the devices would do, the one that comes nearest."""
    nearest: tuple[float, str] = (-1.0, "")
    for request in ask.requests:
        why = f"Insufficient {name_of(request)}"
        for room, said in zip(rooms, standings.refusals, strict=True):
            if said is None or said[1] != why:
                continue
            share, has = nearest_miss(request, room.gpus)
            if share > nearest[0]:
                nearest = share, f"node {room.name} {has}: free it, or request less"
    return nearest[1]
