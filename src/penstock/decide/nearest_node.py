"""Which node comes nearest to taking a pod that fits nowhere, and what is missing there?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import compress, count
from operator import is_not

from penstock.contracts.devices import DeviceRequest
from penstock.decide.device_fit import lacking, name_of, nearness
from penstock.decide.gpu_state import GpuState, is_usual
from penstock.decide.inventory import NodeRoom
from penstock.decide.node_rules import short_of
from penstock.decide.pod_requests import Units, quantity_of
from penstock.kit.quantity import format_quantity

Refusals = list[tuple[str, str] | None]
"""Of each node, by its place, its name and why not; None where the pod fits."""


class Misses:
    """Of one kind of pod, for each node by its place where only devices are missing: how much of them is there, 0 to 1, -1 for other nodes.

    Remembered as long as the node is the same object.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._rooms: list[NodeRoom] = []
        self._shares: list[float] = []

    def hint(
        self,
        needs: Units,
        requests: tuple[DeviceRequest, ...],
        rooms: list[NodeRoom],
        states: list[GpuState | None],
        refusals: Refusals,
        shorts: Callable[[Units], list[int]],
    ) -> str:
        """The smallest change that helps. Devices first: where they are missing, all else would do.

        `shorts` says for each node of how many resources too little is left.
        """
        if not rooms:
            return "there is no node"
        if requests:
            whys = [(f"Insufficient {name_of(one)}", one) for one in requests]
            self._see(whys, rooms, states, refusals)
            if (most := max(self._shares)) >= 0:
                return self._devices(whys, self._shares.index(most), refusals)
        missing_at = shorts(needs)
        if fewest := min(filter(None, missing_at), default=0):
            room = rooms[missing_at.index(fewest)]
            missing = " and ".join(
                f"{format_quantity(quantity_of(name, units))} {name}"
                for name, units in sorted(short_of(needs, room).items())
            )
            return f"node {room.name} lacks {missing}: free it, or request less"
        return "add a node, or relax the pod's nodeSelector, affinity or tolerations"

    def _see(
        self,
        whys: list[tuple[str, DeviceRequest]],
        rooms: list[NodeRoom],
        states: list[GpuState | None],
        refusals: Refusals,
    ) -> None:
        changed: Iterable[int]
        if len(rooms) != len(self._rooms):
            self._shares = [-1.0] * len(rooms)
            changed = range(len(rooms))
        else:
            changed = compress(count(), map(is_not, rooms, self._rooms))
        asked: dict[str, list[DeviceRequest]] = {}
        for why, one in whys:
            asked.setdefault(why, []).append(one)
        for place in changed:
            said, share = refusals[place], -1.0
            if said is not None and (missing := asked.get(said[1])):
                state = states[place]
                for one in missing:
                    near = state.nearness(one) if state and is_usual(one) else nearness(one, rooms[place])
                    share = max(share, near)
            self._shares[place] = share
        self._rooms = rooms

    def _devices(self, whys: list[tuple[str, DeviceRequest]], place: int, refusals: Refusals) -> str:
        room, said = self._rooms[place], refusals[place]
        missing = [one for why, one in whys if said and said[1] == why]
        nearest = max(missing, key=lambda one: nearness(one, room))
        return f"node {room.name} {lacking(nearest, room)}: free it, or request less"
