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
from math import inf
from operator import itemgetter

from penstock.contracts.devices import DeviceRequest, Share
from penstock.decide.board import Board, Found, Levels, Standings, set_loss
from penstock.decide.claim_fit import pinned
from penstock.decide.fragmentation import Mix, Worth
from penstock.decide.inventory import Inventory, NodeRoom, lot, pod_key
from penstock.decide.nearest_node import Refusals
from penstock.decide.node_standing import Ask, Leaning, Tier
from penstock.decide.pod_rules import Verdict, has_rules, judge
from penstock.resources.pod import Pod

ZONE = "topology.kubernetes.io/zone"
NO_WISH = Leaning()
NO_MIX = Worth(Mix())
NO_RULES = Verdict({}, {})


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
    requests = pinned(pod, requests, inventory)
    ask = Ask(pod, requests, worth, leaning)
    names, rooms = list(inventory.rooms), list(inventory.rooms.values())
    board = board or Board()
    standings, kin = board.standings(ask, rooms)
    judged = judge(pod, rooms) if has_rules(pod) or board.has_repelling else NO_RULES
    other = _otherwise(ask, rooms, standings, kin, judged, board.siblings(ask))
    refusals = _refusals(standings, other, names)
    levels = _levels(standings, other)
    least = {tier: min(level, default=inf) for tier, level in levels.items()}
    tiers = sorted(tier for tier, loss in least.items() if loss < inf)
    if not tiers:
        told = tuple(filter(None, refusals))
        hint = standings.misses.hint(
            ask.needs, requests, rooms, board.states, standings.refusals, board.shorts
        )
        return Placement("", _explain(told, len(rooms)), told, hint=hint)
    first, loss = levels[tiers[0]], least[tiers[0]]
    equal = _places_of(loss, first)
    chosen = _drawn(pod, equal, rooms)
    runner_up = _next_best(levels, tiers, chosen, names)
    how = "least fragmenting" if requests else "least loaded"
    count = refusals.count(None)
    message = f"{how} of {count} fitting nodes" if runner_up else "the only node that fits"
    parts = tuple(zip(PARTS, (*tiers[0], loss), strict=True))
    shares = ask.shares(rooms[chosen])
    return Placement(names[chosen], message, tuple(filter(None, refusals)), runner_up, "", shares, parts)


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


def _otherwise(
    ask: Ask,
    rooms: list[NodeRoom],
    standings: Standings,
    kin: dict[int, Found],
    judged: Verdict,
    siblings: dict[int, int],
) -> dict[int, Found]:
    """Of the nodes whose standing is not what the board says, by their place in `rooms`: what other nodes add to it."""
    found = dict(kin)
    crowded = _crowded(ask, rooms, siblings)
    if not (crowded or judged.refusals or judged.preferences or ask.leans):
        return found
    is_told = bool(judged.refusals or judged.preferences or ask.leans)
    losses = ask.leaning.losses([room.name for room in rooms]) if ask.leans else [0.0] * len(rooms)
    for place in range(len(rooms)) if is_told else crowded:
        one, name = found.get(place) or standings.at(place), rooms[place].name
        if isinstance(one, str):
            continue
        if name in judged.refusals:
            found[place] = judged.refusals[name]
            continue
        (soft, collides, _, preferred, off, number), loss = one
        preferred -= judged.preferences.get(name, 0.0)
        found[place] = (soft, collides, float(place in crowded), preferred, off, number), loss + losses[place]
    return found


def _levels(standings: Standings, other: dict[int, Found]) -> Levels:
    """The losses of those that fit, by tier."""
    if not other:
        return standings.levels
    levels = {tier: level.copy() for tier, level in standings.levels.items()}
    for place, found in other.items():
        for level in levels.values():
            level[place] = inf
        if not isinstance(found, str):
            set_loss(levels, place, len(standings.refusals), found)
    return levels


def _next_best(levels: Levels, tiers: list[Tier], chosen: int, names: list[str]) -> str:
    others = levels[tiers[0]].copy()
    others[chosen] = inf
    if min(others) == inf:
        if len(tiers) == 1:
            return ""
        others = levels[tiers[1]]
    return names[others.index(min(others))]


def _places_of(loss: float, level: list[float]) -> list[int]:
    places, at = [], -1
    for _ in range(level.count(loss)):
        at = level.index(loss, at + 1)
        places.append(at)
    return places


def _crowded(ask: Ask, rooms: list[NodeRoom], siblings: dict[int, int]) -> frozenset[int]:
    """The nodes of the only failure domain (zone, or node where there are no zones) on which all of the owner's pods are, if it asks for GPUs."""
    if not (ask.requests and siblings):
        return frozenset()
    if len({room.node.metadata.labels.get(ZONE) for room in rooms}) == 1:
        return frozenset(siblings) if len(siblings) == 1 else frozenset()
    zones = {rooms[place].node.metadata.labels.get(ZONE, "") for place in siblings}
    if len(zones) > 1:
        return frozenset()
    return frozenset(
        place for place, room in enumerate(rooms) if room.node.metadata.labels.get(ZONE, "") in zones
    )


def _refusals(standings: Standings, other: dict[int, Found], names: list[str]) -> Refusals:
    if not other:
        return standings.refusals
    refusals = standings.refusals.copy()
    for place, found in other.items():
        refusals[place] = (names[place], found) if isinstance(found, str) else None
    return refusals


def _drawn(pod: Pod, places: list[int], rooms: list[NodeRoom]) -> int:
    """The lot that falls to this pod: the same in every process, another for another pod."""
    if len(places) == 1:
        return places[0]
    own = lot(pod_key(pod))
    return min(places, key=lambda place: rooms[place].lot ^ own)


def _explain(refusals: tuple[tuple[str, str], ...], nodes: int) -> str:
    counts = Counter(map(itemgetter(1), refusals))
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return f"0/{nodes} nodes are available: {reasons}." if reasons else "0/0 nodes are available."
