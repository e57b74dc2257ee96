"""Would this pod fit there if those pods were gone?

Asks `decide/placement.py` about a state that is not: nothing is bound or ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from penstock.contracts.devices import DeviceRequest
from penstock.decide.board import Board
from penstock.decide.inventory import Inventory
from penstock.decide.placement import place
from penstock.decide.preemption import Fits
from penstock.resources.pod import Pod

Requests = Callable[[Pod], tuple[DeviceRequest, ...] | str]
"""Which devices a pod asks for (`decide/device_requests.py`), or why it can never have them."""


class Room:
    """An inventory in which pods that wait hold the places that they were given here."""

    def __init__(self, inventory: Inventory, requests: Requests) -> None:
        self.inventory = inventory
        self._requests = requests
        self._board = Board()

    def take(self, pod: Pod) -> str:
        """Hold a place for the pod; the node's name, or "" where there is none."""
        requests = self._requests(pod)
        if isinstance(requests, str):
            return ""
        found = place(pod, self.inventory, requests, board=self._board)
        if found.node:
            self.inventory = self.inventory.with_(pod, found.node, found.shares)
        return found.node

    def take_all(self, pods: Iterable[Pod]) -> dict[str, str] | None:
        """Hold a place for each of them; the node's name of each by its uid, None where one finds none."""
        found = {}
        for pod in pods:
            if not (node := self.take(pod)):
                return None
            found[pod.metadata.uid] = node
        return found

    def among(self, nodes: Iterable[str]) -> Room:
        """As if there were no other nodes."""
        rooms = self.inventory.rooms
        return Room(Inventory({name: rooms[name] for name in sorted(nodes) if name in rooms}), self._requests)

    def without(self, pods: Iterable[Pod]) -> Room:
        """As if these pods were gone."""
        return Room(self.inventory.without(pods), self._requests)

    def fits(self, pod: Pod) -> Fits:
        """Whether the pod fits on a node without some pods, other nodes left out of account: for `preempt`."""
        requests = self._requests(pod)

        def answer(node: str, gone: tuple[Pod, ...]) -> bool:
            room = self.inventory.rooms.get(node)
            if room is None or isinstance(requests, str):
                return False
            return bool(place(pod, Inventory({node: room}).without(gone), requests).node)

        return answer
