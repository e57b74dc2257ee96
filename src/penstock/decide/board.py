"""What has been found out about nodes that have not changed since?

A decision among thousands of nodes looks only at the few that changed after the last pod of its kind, and at those where pods of the same
owner are. The rest is remembered here; the answer is the same as without.
"""

from __future__ import annotations

from itertools import compress, count
from operator import is_not
from typing import TypeVar

from msgspec import Struct, field

from penstock.decide.fragmentation import Worth
from penstock.decide.gpu_state import GpuState
from penstock.decide.inventory import NodeRoom
from penstock.decide.nearest_node import Misses, Refusals
from penstock.decide.node_standing import Ask, Barrier, Fit, Tier

MOST_REMEMBERED = 512
"""Kinds of pods, and owners, that a `Board` keeps standings for; of more it forgets the one that it has not looked at for longest."""
Found = Fit | str
"""A standing: how well the pod fits, or why not."""
K = TypeVar("K")
V = TypeVar("V")


class Standings(Struct):
    """Of all nodes on which no pod of the same owner is, by their place in the order of the inventory.

    `levels` are the losses of those that fit, by tier; `refusals` names and says why of the others. They hold for the nodes as they were when
    `Board` had seen `seen` changes; `ask` is one of those who ask alike.
    """

    ask: Ask
    seen: int
    tiers: list[Tier | None]
    refusals: Refusals
    levels: dict[Tier, dict[int, float]] = {}
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
        old = self.tiers[place]
        if isinstance(found, str):
            self.refusals[place] = room.name, found
            if old is not None:
                self.tiers[place] = None
                del self.levels[old][place]
            return
        tier, loss = found
        if tier != old:
            if old is not None:
                del self.levels[old][place]
            self.tiers[place], self.refusals[place] = tier, None
            self.levels.setdefault(tier, {})
        self.levels[tier][place] = loss

    def append(self, place: int, room: NodeRoom, found: Found) -> None:
        """What was found of the next node."""
        if isinstance(found, str):
            self.tiers.append(None)
            self.refusals.append((room.name, found))
        else:
            tier, loss = found
            self.tiers.append(tier)
            self.refusals.append(None)
            if tier not in self.levels:
                self.levels[tier] = {}
            self.levels[tier][place] = loss

    def at(self, place: int) -> Found:
        """What was found."""
        tier, refused = self.tiers[place], self.refusals[place]
        return (tier, self.levels[tier][place]) if tier is not None else refused[1] if refused else ""


class Kin(Struct):
    """Standings of nodes where an owner has pods, each with the node for which it holds."""

    worth: Worth
    of: dict[int, tuple[NodeRoom, Found]] = {}


class Board:
    """Holds as long as nodes are the same objects (`inventory`: a node that nobody touched is)."""

    def __init__(self) -> None:
        """Empty."""
        self._rooms: list[NodeRoom] = []
        self._changes = 0
        self._start([])

    def standings(self, ask: Ask, rooms: list[NodeRoom]) -> tuple[Standings, dict[int, Found]]:
        """Of all nodes as if the owner had no pod, and of those where it has. Good until the next call."""
        self._notice(rooms)
        key = ask.key()
        known = self._known.pop(key, None)
        if known is None or known.ask.worth is not ask.worth:
            known = self._anew(ask)
        self._catch_up(known)
        self._catch_up_another(ask.worth)
        _remember(self._known, key, known)
        return known, self._among_kin(ask, key, known)

    def _catch_up(self, known: Standings) -> None:
        """Look again at the nodes that have changed, last one first."""
        for place, at in reversed(self._changed.items()):
            if at <= known.seen:
                break
            room = self._rooms[place]
            known.enter(place, room, known.look(known.ask, place, room, self.states[place]))
        known.seen = self._changes

    def _catch_up_another(self, worth: Worth) -> None:
        """The kind that has not been looked at for longest, so that none has to look at very many nodes when it returns."""
        if not self._known:
            return
        key = next(iter(self._known))
        another = self._known.pop(key)
        if another.ask.worth is worth:
            self._catch_up(another)
            self._known[key] = another

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
            room, before = self._rooms[place], kin.of.get(place)
            if before is None or before[0] is not room:
                barrier = known.barrier(ask, place, room)
                kin.of[place] = room, ask.standing_among(room, barrier, number)
        return {place: kin.of[place][1] for place in siblings}

    def _notice(self, rooms: list[NodeRoom]) -> None:
        """See which nodes are not what they were."""
        if len(rooms) != len(self._rooms):
            self._start(rooms)
            return
        for place in compress(count(), map(is_not, rooms, self._rooms)):
            room = rooms[place]
            self.states[place] = GpuState(room) if room.kind else None
            self._changes += 1
            self._changed.pop(place, None)
            self._changed[place] = self._changes
            self._count(place, self._rooms[place], room)
        self._rooms = rooms

    def _start(self, rooms: list[NodeRoom]) -> None:
        self._rooms = rooms
        self.states: list[GpuState | None] = []
        self._changes = 0
        self._changed: dict[int, int] = {}
        self._owners: dict[str, dict[int, int]] = {}
        self._known: dict[bytes, Standings] = {}
        self._kin: dict[tuple[str, bytes], Kin] = {}
        self._repelling = 0
        alike: dict[object, GpuState] = {}
        for place, room in enumerate(rooms):
            self._count(place, None, room)
            state = None
            if room.kind:
                key = room.residual if room.is_open else place
                state = alike.get(key) or alike.setdefault(key, GpuState(room))
            self.states.append(state)

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

    def _anew(self, ask: Ask) -> Standings:
        """Nodes that are equally useful to the pod are looked at once."""
        known = Standings(ask, self._changes, [], [])
        is_plain = ask.is_easy and ask.is_usual
        alike: dict[GpuState, Found] = {}
        for place, (room, state) in enumerate(zip(self._rooms, self.states, strict=True)):
            found = alike.get(state) if state else None
            if found is None:
                found = known.look(ask, place, room, state)
                if state and is_plain and room.is_open:
                    alike[state] = found
            known.append(place, room, found)
        return known


def _remember(known: dict[K, V], key: K, value: V) -> None:
    if len(known) >= MOST_REMEMBERED:
        del known[next(iter(known))]
    known[key] = value
