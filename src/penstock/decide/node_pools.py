"""Is another node needed, and which type is cheapest for the queue?

Pods that fit nowhere are placed on template nodes of the declared pools, by the rules that place pods on real ones. Of the pools on which
some find room, the one is taken whose nodes cost least for what they serve: per dollar that those pods would cost where each is cheapest
alone, so that room which nobody asks for is paid for. Of equal ones, the one whose rest is of most use to the usual work. A pool without a
price comes after all that have one. In the end every added node goes, dearest first, whose pods find room on the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.contracts.devices import Gpu
from penstock.decide.fragmentation import Worth
from penstock.decide.gang import Member, Placer, place_gang
from penstock.decide.inventory import Inventory, NodeRoom, empty_room
from penstock.decide.placement import Placement
from penstock.decide.pod_requests import needs_of, offered
from penstock.decide.pod_rules import has_rules
from penstock.decide.prices import Quote, dollars, node_part
from penstock.resources.core import Node

MOST_ADDED = 64
"""Nodes that one answer adds: the queue is looked at again when they are there."""
LATER = f"no more than {MOST_ADDED} nodes are added at once: ask again when they are there"
HOSTNAME = "kubernetes.io/hostname"


class NodePool(Struct, frozen=True, kw_only=True):
    """Nodes that could be had: up to `most` beyond those that there are, each like `node` with devices like `gpus`, at `quote`'s price."""

    name: str
    node: Node
    gpus: tuple[Gpu, ...] = ()
    quote: Quote
    most: int = MOST_ADDED


class Unit(NamedTuple):
    """What is placed all at once or not at all: a pod, or a gang."""

    name: str
    members: tuple[Member, ...]


class Growth(Struct, frozen=True, kw_only=True, rename="camel"):
    """How many nodes of which pool to add, and what they cost per hour together, None where a price is not known.

    `served` are the units that get room, with the names of their new nodes; `left` those that no pool helps, and why not: in the words of
    placement, of one node of each pool. `reasons` has a sentence per choice, `runner_up` is what came second for the first one. `unseen` is how
    many wait behind those that were looked at.
    """

    add: Mapping[str, int]
    usd_micros: int | None
    served: tuple[tuple[str, tuple[str, ...]], ...]
    reasons: tuple[str, ...]
    runner_up: str = ""
    left: tuple[tuple[str, str], ...] = ()
    unseen: int = 0


class _Fit(NamedTuple):
    unit: Unit
    placements: tuple[Placement, ...]


class _Round(NamedTuple):
    """Some new nodes of one pool by name, the units that they would serve, and what is left of them."""

    pool: NodePool
    nodes: tuple[str, ...]
    fits: tuple[_Fit, ...]
    stock: Inventory


Worths = Mapping[str, float]
"""What each unit would cost per hour where it is cheapest alone, 0 where no price is known."""


def grow(
    queue: Sequence[Unit], inventory: Inventory, pools: Sequence[NodePool], place: Placer, worth: Worth
) -> Growth:
    """`queue` is in the order in which it is placed, `inventory` what there is, `place` how a pod is placed."""
    waiting, why = _unplaced(queue, inventory, place)
    costs = _costs(waiting, pools, place)
    samples = Inventory({pool.name: template_room(pool, pool.name) for pool in pools})
    left = []
    for unit in waiting:
        if unit.name not in costs:
            refused = _placed(unit, samples, place)
            left.append((unit.name, refused if isinstance(refused, str) else why[unit.name]))
    waiting = [unit for unit in waiting if unit.name in costs]
    chosen: list[_Round] = []
    runner_up = ""
    while waiting and sum(len(one.nodes) for one in chosen) < MOST_ADDED:
        rounds = [_round(pool, _had(chosen, pool), waiting, place) for pool in pools]
        found = sorted((one for one in rounds if one), key=lambda one: _rank(one, costs, worth))
        if not found:
            break
        if not chosen and len(found) > 1:
            runner_up = _said(found[1])
        chosen.append(found[0])
        done = {fit.unit.name for fit in found[0].fits}
        waiting = [unit for unit in waiting if unit.name not in done]
    is_full = sum(len(one.nodes) for one in chosen) >= MOST_ADDED
    late = LATER if is_full else "all nodes that the pools may add are taken by others"
    left += [(unit.name, late) for unit in waiting]
    return _answer(chosen, place, runner_up, tuple(left))


def template_room(pool: NodePool, name: str) -> NodeRoom:
    """A new node of the pool, on which nothing runs yet."""
    meta = replace(pool.node.metadata, name=name, labels={**pool.node.metadata.labels, HOSTNAME: name})
    node = replace(pool.node, metadata=meta)
    gpus = tuple(replace(gpu, uuid=f"{name}/{gpu.index}") for gpu in pool.gpus)
    return empty_room(node, gpus, offered(node.status.allocatable))


def _unplaced(
    queue: Iterable[Unit], inventory: Inventory, place: Placer
) -> tuple[list[Unit], dict[str, str]]:
    """Those that find no room when all before them have theirs, and why."""
    waiting, why = [], {}
    for unit in queue:
        found = _placed(unit, inventory, place)
        if isinstance(found, str):
            waiting.append(unit)
            why[unit.name] = found
        else:
            inventory = _with(inventory, _Fit(unit, found))
    return waiting, why


def _placed(unit: Unit, stock: Inventory, place: Placer) -> tuple[Placement, ...] | str:
    """Where all of its pods go, or why they cannot."""
    if len(unit.members) > 1:
        found = place_gang(unit.members, stock, place)
        return found.placements or found.message
    (member,) = unit.members
    one = place(member.pod, stock, member.requests)
    return (one,) if one.node else f"{one.message} {one.hint}".strip()


def _with(stock: Inventory, fit: _Fit) -> Inventory:
    for member, one in zip(fit.unit.members, fit.placements, strict=True):
        stock = stock.with_(member.pod, one.node, one.shares)
    return stock


def _costs(units: Iterable[Unit], pools: Sequence[NodePool], place: Placer) -> Worths:
    """Of those that some pool has room for. Units that are alike are looked at once."""
    known: dict[bytes, float | None] = {}
    found = {}
    for unit in units:
        key = _key(unit)
        cost = known[key] if key in known else _alone(unit, pools, place)
        if key:
            known[key] = cost
        if cost is not None:
            found[unit.name] = cost
    return found


def _alone(unit: Unit, pools: Iterable[NodePool], place: Placer) -> float | None:
    """Its cost per hour where that is least, in millionths; 0 where no price is known, None where no pool has room for it."""
    rounds = [one for one in (_round(pool, 0, [unit], place) for pool in pools) if one]
    costs = [
        float(one.pool.quote.usd_micros * _part(one))
        for one in rounds
        if one.pool.quote.usd_micros is not None
    ]
    return min(costs, default=0.0) if rounds else None


def _round(pool: NodePool, have: int, units: Sequence[Unit], place: Placer) -> _Round | None:
    """As few new nodes as it takes that some unit fits, and all units that fit on those; None where none does."""
    most = min(pool.most - have, max(len(unit.members) for unit in units))
    for count in range(1, most + 1):
        names = tuple(f"{pool.name}-{have + number}" for number in range(1, count + 1))
        stock = Inventory({name: template_room(pool, name) for name in names})
        fits: list[_Fit] = []
        refused: set[bytes] = set()
        for unit in units:
            key = _key(unit)
            found = "" if key in refused else _placed(unit, stock, place)
            if isinstance(found, str):
                refused |= {key} if key else set()
                continue
            fits.append(_Fit(unit, found))
            stock = _with(stock, fits[-1])
        if fits:
            return _Round(pool, names, tuple(fits), stock)
    return None


def _key(unit: Unit) -> bytes:
    """Units with the same key find room on the same nodes; b"" where that depends on who else is there."""
    if any(has_rules(member.pod) for member in unit.members):
        return b""
    return msgspec.json.encode([(m.pod.spec, m.pod.metadata.annotations, m.requests) for m in unit.members])


def _part(one: _Round) -> Fraction:
    """How many nodes' worth of it is asked for."""
    total = Fraction(0)
    for fit in one.fits:
        for member, placement in zip(fit.unit.members, fit.placements, strict=True):
            room = one.stock.rooms[placement.node]
            gpus = [gpu.gpu for gpu in room.gpus]
            total += node_part(placement.shares, needs_of(member.pod), gpus, room.whole)
    return total


def _rank(one: _Round, costs: Worths, worth: Worth) -> tuple[bool, float, float, int, str]:
    """Less is better."""
    price = one.pool.quote.usd_micros
    served = sum(costs[fit.unit.name] for fit in one.fits)
    whole = (price or 0) * len(one.nodes)
    waste = whole / served if served else float(whole)
    rest = sum(
        worth.of(room.kind, room.free.get("cpu", 0), room.divisible)
        for room in one.stock.rooms.values()
        if room.kind
    )
    return price is None, round(waste, 9), -rest, whole, one.pool.name


def _had(chosen: Iterable[_Round], pool: NodePool) -> int:
    return sum(len(one.nodes) for one in chosen if one.pool is pool)


def _said(one: _Round) -> str:
    price = one.pool.quote.usd_micros
    cost = "at an unknown price" if price is None else f"at {dollars(price)}"
    names = [fit.unit.name for fit in one.fits]
    whom = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    nodes = "a node" if len(one.nodes) == 1 else f"{len(one.nodes)} nodes"
    asked = round(100 * _part(one) / len(one.nodes))
    return f"{nodes} of {one.pool.name} {cost} would have room for {whom}, who ask for {asked} % of it"


def _answer(
    chosen: Sequence[_Round], place: Placer, runner_up: str, left: tuple[tuple[str, str], ...]
) -> Growth:
    reasons = [_said(one) for one in chosen]
    pool_of = {name: one.pool for one in chosen for name in one.nodes}
    stock = Inventory({name: room for one in chosen for name, room in one.stock.rooms.items()})
    fits = {fit.unit.name: fit for one in chosen for fit in one.fits}
    for name in sorted(pool_of, key=lambda name: (-(pool_of[name].quote.usd_micros or 0), name)):
        moved = _moved(name, stock, fits, place)
        if moved is not None:
            stock, again = moved
            fits |= again
            reasons.append(f"{name} is not needed after all: its pods find room on the others")
            del pool_of[name]
    quotes = [pool.quote.usd_micros for pool in pool_of.values()]
    known = [usd for usd in quotes if usd is not None]
    return Growth(
        add=dict(Counter(pool.name for pool in pool_of.values())),
        usd_micros=sum(known) if len(known) == len(quotes) else None,
        served=tuple(
            (unit, tuple(dict.fromkeys(one.node for one in fit.placements))) for unit, fit in fits.items()
        ),
        reasons=tuple(reasons),
        runner_up=runner_up,
        left=left,
    )


def _moved(
    name: str, stock: Inventory, fits: Mapping[str, _Fit], place: Placer
) -> tuple[Inventory, dict[str, _Fit]] | None:
    """Without that node, if all whom it serves find room on the others."""
    concerned = [fit for fit in fits.values() if any(one.node == name for one in fit.placements)]
    gone = stock.without(member.pod for fit in concerned for member in fit.unit.members)
    rest = Inventory({other: room for other, room in gone.rooms.items() if other != name})
    again = {}
    for fit in concerned:
        found = _placed(fit.unit, rest, place)
        if isinstance(found, str):
            return None
        again[fit.unit.name] = _Fit(fit.unit, found)
        rest = _with(rest, again[fit.unit.name])
    return rest, again
