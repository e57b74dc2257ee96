"""What has been found out about nodes that have not changed since?

A decision among thousands of nodes looks only at the few that changed after the last pod of its kind, and at those where pods of the same
owner are. The rest is remembered here; the answer is the same as without. What a change means to all the other kinds is worked out between
decisions (`prepare`), so that none of them finds very much to do when it returns.
"""

from __future__ import annotations

from itertools import islice
from math import inf
from typing import TypeVar

from msgspec import Struct, field

from penstock.decide.fragmentation import Worth
from penstock.decide.gpu_state import GpuState
from penstock.decide.inventory import NodeRoom
from penstock.decide.nearest_node import Misses, Refusals
from penstock.decide.node_columns import Columns
from penstock.decide.node_rules import lacks
from penstock.decide.node_standing import OPEN, OPEN_OFF, Ask, Barrier, Fit, Tier
from penstock.decide.pod_requests import Units

MOST_REMEMBERED = 512
"""Kinds of pods, and owners, that a `Board` keeps standings for; of more it forgets the one that it has not looked at for longest."""
FEW, ANEW_PART = 16, 32
"""If more nodes changed than so many and this part of all, a kind is looked at anew rather than at those."""
PREPARED = 96
"""Sizes of pods, and as many kinds that are not plain, that are brought up to date at once: about a millisecond."""
Levels = dict[Tier, list[float]]
Found = Fit | str
"""A standing: how well the pod fits, or why not."""
K = TypeVar("K")
V = TypeVar("V")


class Standings(Struct):
    """Of all nodes on which no pod of the same owner is, by their place in the order of the inventory.

    `levels` are the losses by tier, infinite for nodes that are not of the tier; `refusals` names and says why of those where the pod does not
    fit. They hold for the nodes as they were when `Board` had seen `seen` changes; `ask` is one of those who ask alike.
    """

    ask: Ask
    seen: int
    refusals: Refusals
    levels: Levels
    barriers: dict[int, Barrier] = {}
    misses: Misses = field(default_factory=Misses)

    def look(self, ask: Ask, place: int, room: NodeRoom, state: GpuState | None) -> Found:
        """At one node."""
        barrier = None if ask.is_easy and room.is_open else self.barrier(ask, place, room)
        return ask.standing(room, state, barrier)

    def barrier(self, ask: Ask, place: int, room: NodeRoom) -> Barrier:
        """Found anew when the node says something else."""
        known = self.barriers.get(place)
        if known is None or known.node is not room.node:
            known = self.barriers[place] = ask.barrier(room.node)
        return known

    def enter(self, place: int, room: NodeRoom, found: Found) -> None:
        """Replace what was known of one node."""
        for level in self.levels.values():
            level[place] = inf
        if isinstance(found, str):
            self.refusals[place] = room.name, found
        else:
            self.refusals[place] = None
            set_loss(self.levels, place, len(self.refusals), found)

    def at(self, place: int) -> Found:
        """What was found."""
        if refused := self.refusals[place]:
            return refused[1]
        return next((tier, level[place]) for tier, level in self.levels.items() if level[place] < inf)


def set_loss(levels: Levels, place: int, size: int, fit: Fit) -> None:
    """Enter a node that fits, of so many nodes."""
    tier, loss = fit
    if tier not in levels:
        levels[tier] = [inf] * size
    levels[tier][place] = loss


class Kin(Struct):
    """Standings of nodes where an owner has pods, each with the node for which it holds."""

    worth: Worth
    of: dict[int, tuple[NodeRoom, Found]] = {}


class Board:
    """Holds as long as nodes are the same objects (`inventory`: a node that nobody touched is)."""

    def __init__(self) -> None:
        """Empty."""
        self._start([])

    def standings(self, ask: Ask, rooms: list[NodeRoom]) -> tuple[Standings, dict[int, Found]]:
        """Of all nodes as if the owner had no pod, and of those where it has. Good until the next call."""
        self._notice(rooms)
        key = ask.key()
        known = self._known.pop(key, None)
        changed = self._columns.since(known.seen) if known else []
        if known is None or known.ask.worth is not ask.worth or self._is_quicker_anew(ask, changed):
            known = self._anew(ask, known)
        else:
            self._catch_up(known, changed)
        _remember(self._known, key, known)
        return known, self._among_kin(ask, key, known)

    def prepare(self, rooms: list[NodeRoom], worth: Worth) -> None:
        """Between decisions: take over what the nodes are now, for those kinds and sizes first that were not looked at for longest."""
        self._notice(rooms)
        self._columns.keep_up(worth, PREPARED)
        for key in list(islice(self._known, PREPARED)):
            another = self._known.pop(key)
            if another.ask.worth is worth and not another.ask.is_plain:
                self._catch_up(another, self._columns.since(another.seen))
            self._known[key] = another

    @property
    def states(self) -> list[GpuState | None]:
        """The GPUs of each node, None where they are of several types or there are none."""
        return self._columns.states

    def shorts(self, needs: Units) -> list[int]:
        """Of how many resources each node has too little left."""
        return self._columns.shorts(needs)

    def _is_quicker_anew(self, ask: Ask, changed: list[int]) -> bool:
        """By columns, where few nodes are odd and many have changed."""
        columns = self._columns
        few = FEW + len(columns.rooms) // ANEW_PART
        return ask.is_plain and len(changed) > few + len(columns.odd)

    def _catch_up(self, known: Standings, changed: list[int]) -> None:
        """Look again at the nodes that have changed."""
        rooms, states = self._columns.rooms, self._columns.states
        for place in changed:
            room = rooms[place]
            known.enter(place, room, known.look(known.ask, place, room, states[place]))
        known.seen = self._columns.changes

    @property
    def has_repelling(self) -> bool:
        """Whether a pod that runs keeps others away by anti-affinity."""
        return self._repelling > 0

    def siblings(self, ask: Ask) -> dict[int, int]:
        """How many pods of the owner are on which nodes."""
        return self._owners.get(ask.owner, {}) if ask.owner else {}

    def _among_kin(self, ask: Ask, key: bytes, known: Standings) -> dict[int, Found]:
        siblings = self.siblings(ask)
        if not siblings:
            return {}
        kin = self._kin.get((ask.owner, key))
        if kin is None or kin.worth is not ask.worth:
            kin = Kin(ask.worth)
            _remember(self._kin, (ask.owner, key), kin)
        for place, number in siblings.items():
            room, before = self._columns.rooms[place], kin.of.get(place)
            if before is None or before[0] is not room:
                barrier = known.barrier(ask, place, room)
                kin.of[place] = room, ask.standing_among(room, barrier, number)
        return {place: kin.of[place][1] for place in siblings}

    def _notice(self, rooms: list[NodeRoom]) -> None:
        """See which nodes are not what they were."""
        if len(rooms) != len(self._columns.rooms):
            self._start(rooms)
            return
        for place, before in self._columns.notice(rooms):
            self._count(place, before, rooms[place])

    def _start(self, rooms: list[NodeRoom]) -> None:
        self._columns = Columns(rooms)
        self._owners: dict[str, dict[int, int]] = {}
        self._known: dict[bytes, Standings] = {}
        self._kin: dict[tuple[str, bytes], Kin] = {}
        self._repelling = 0
        for place, room in enumerate(rooms):
            self._count(place, None, room)

    def _count(self, place: int, old: NodeRoom | None, room: NodeRoom) -> None:
        """Keep account of which owners have pods there, and whether some keep others away."""
        self._repelling += room.repels - (old is not None and old.repels)
        for held in old.held if old else ():
            places = self._owners.get(held.owner, {})
            places.pop(place, None)
            if not places:
                self._owners.pop(held.owner, None)
        for held in room.held:
            places = self._owners.setdefault(held.owner, {})
            places[place] = places.get(place, 0) + 1

    def _anew(self, ask: Ask, before: Standings | None) -> Standings:
        known = self._by_columns(ask) if ask.is_plain else self._one_by_one(ask)
        if before is not None:
            known.misses = before.misses
        return known

    def _one_by_one(self, ask: Ask) -> Standings:
        """Every node is looked at."""
        columns = self._columns
        known = Standings(ask, columns.changes, [None] * len(columns.rooms), {})
        for place, (room, state) in enumerate(zip(columns.rooms, columns.states, strict=True)):
            known.enter(place, room, known.look(ask, place, room, state))
        return known

    def _by_columns(self, ask: Ask) -> Standings:
        """The same, of a kind for which only numbers matter on most nodes."""
        columns = self._columns
        losses, said = columns.costs(ask.worth, ask.taking), columns.said(ask.short)
        if ask.types:
            able = map(ask.types.__contains__, columns.kinds)
            losses = [loss if fits else inf for loss, fits in zip(losses, able, strict=True)]
        refusals: Refusals = [None if loss < inf else one for loss, one in zip(losses, said, strict=True)]
        level = losses.copy()
        for name in sorted(ask.needs, reverse=True):
            said = columns.said(lacks(name))
            for place in columns.short(name, ask.needs[name]):
                level[place], refusals[place] = inf, said[place]
        known = Standings(ask, columns.changes, refusals, {OPEN if ask.requests else OPEN_OFF: level})
        for place in columns.odd:
            room = columns.rooms[place]
            known.enter(place, room, known.look(ask, place, room, columns.states[place]))
        return known


def _remember(known: dict[K, V], key: K, value: V) -> None:
    if len(known) >= MOST_REMEMBERED:
        del known[next(iter(known))]
    known[key] = value
