"""What do all nodes have of one thing, each by its place in the order of the inventory?

Free amounts of a resource, and what a pod of some size would cost: kept as lists, so that a kind of pod that was not seen for long, or never,
is compared with a thousand nodes in a few passes over numbers. What pods of one size cost is shared by all kinds that differ in something else.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import compress, count, islice
from math import inf
from operator import is_not

from msgspec import Struct

from penstock.decide.fragmentation import Worth
from penstock.decide.gpu_state import GpuState, Taking
from penstock.decide.inventory import NodeRoom
from penstock.decide.node_rules import is_counted
from penstock.decide.pod_requests import Units

MOST_REMEMBERED = 512
"""Sizes of pods whose costs are kept; of more the one is forgotten that was not asked for longest."""
PLENTY = 1 << 62
Said = tuple[str, str]


class Costs(Struct):
    """`GpuState.loss` of every node for pods of one size, as the nodes were after so many changes; infinite where there is no state."""

    worth: Worth
    of: list[float]
    seen: int


class Columns:
    """Of one list of nodes; `notice` tells what became of them."""

    def __init__(self, rooms: list[NodeRoom]) -> None:
        """Nothing is worked out before it is asked for."""
        self.rooms = rooms
        self.changes = 0
        self._changed: dict[int, int] = {}
        self.states: list[GpuState | None] = []
        self.odd: set[int] = set()
        self.kinds = [room.kind for room in rooms]
        self._free: dict[str, array[int]] = {}
        self._costs: dict[Taking, Costs] = {}
        self._said: dict[str, list[Said]] = {}
        alike: dict[object, GpuState] = {}
        for place, room in enumerate(rooms):
            state = None
            if room.kind:
                key = room.residual if room.is_open else place
                state = alike.get(key) or alike.setdefault(key, GpuState(room))
            self.states.append(state)
            self._see_odd(place, room)

    def notice(self, rooms: list[NodeRoom]) -> Iterator[tuple[int, NodeRoom]]:
        """Take over what the nodes are now, as many as before; the places of those that changed, each with the node as it was."""
        before, self.rooms = self.rooms, rooms
        for place in compress(count(), map(is_not, rooms, before)):
            room = rooms[place]
            self.changes += 1
            self._changed.pop(place, None)
            self._changed[place] = self.changes
            self.states[place] = GpuState(room) if room.kind else None
            self.kinds[place] = room.kind
            self._see_odd(place, room)
            for name, column in self._free.items():
                column[place] = _left(name, room)
            if before[place].name != room.name:
                self._said.clear()
            yield place, before[place]

    def since(self, seen: int) -> list[int]:
        """The places of the nodes that changed after so many changes, the last one first."""
        places = []
        for place, at in reversed(self._changed.items()):
            if at <= seen:
                break
            places.append(place)
        return places

    def free(self, name: str) -> array[int]:
        """Whole units of a resource that are left; plenty where it is not counted but looked at device by device."""
        column = self._free.get(name)
        if column is None:
            column = self._free[name] = array("q", [_left(name, room) for room in self.rooms])
        return column

    def short(self, name: str, units: int) -> list[int]:
        """The places where less is left."""
        column = self.free(name)
        if min(column, default=PLENTY) >= units:
            return []
        return [place for place, left in enumerate(column) if left < units]

    def shorts(self, needs: Units) -> list[int]:
        """Of how many of the resources less is left, on each node."""
        found = [0] * len(self.rooms)
        for name, units in needs.items():
            for place in self.short(name, units):
                found[place] += 1
        return found

    def said(self, why: str) -> list[Said]:
        """Every node's name with these words: the same objects each time."""
        column = self._said.get(why)
        if column is None:
            if len(self._said) >= MOST_REMEMBERED:
                self._said.clear()
            column = self._said[why] = [(room.name, why) for room in self.rooms]
        return column

    def costs(self, worth: Worth, taking: Taking) -> list[float]:
        """What a pod of that size costs on each node, by now."""
        known = self._costs.pop(taking, None)
        if known is None or known.worth is not worth:
            known = Costs(worth, self._found(worth, taking), self.changes)
            if len(self._costs) >= MOST_REMEMBERED:
                del self._costs[next(iter(self._costs))]
        else:
            self._bring_up_to_date(known, taking)
        self._costs[taking] = known
        return known.of

    def keep_up(self, worth: Worth, most: int) -> None:
        """Bring up to date so many sizes, first those that were not asked for longest."""
        for taking in list(islice(self._costs, most)):
            known = self._costs.pop(taking)
            if known.worth is worth:
                self._bring_up_to_date(known, taking)
                self._costs[taking] = known

    def _found(self, worth: Worth, taking: Taking) -> list[float]:
        return [state.loss(worth, taking) if state else inf for state in self.states]

    def _bring_up_to_date(self, costs: Costs, taking: Taking) -> None:
        worth, of, states = costs.worth, costs.of, self.states
        for place in self.since(costs.seen):
            state = states[place]
            of[place] = state.loss(worth, taking) if state else inf
        costs.seen = self.changes

    def _see_odd(self, place: int, room: NodeRoom) -> None:
        """Those whose standing is more than numbers: no GPUs of one type, or the node itself keeps some away."""
        if room.kind and room.is_open:
            self.odd.discard(place)
        else:
            self.odd.add(place)


def _left(name: str, room: NodeRoom) -> int:
    return room.free.get(name, 0) if is_counted(name, room) else PLENTY
