"""How many of these pods can be had?

No more replicas are asked for than nodes have room for: pods that wait for ever help nobody, and hide why. One pod is always asked for
where nothing runs: it holds the place in the queue, says what is missing, and is what a node autoscaler looks at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from penstock.contracts.devices import DeviceRequest
from penstock.decide.board import Board
from penstock.decide.inventory import Inventory
from penstock.decide.placement import place
from penstock.decide.pod_priority import may_push
from penstock.decide.replica_set import is_active, is_ended
from penstock.resources.pod import Pod

MAX_TRIED = 64
"""Pods that are tried on the nodes in one decision; what is beyond is tried in the next."""


@dataclass(frozen=True, slots=True)
class Room:
    """`size` is what may be asked for; `refusal` says why it is not what was wanted, "" where it is."""

    size: int
    refusal: str = ""


class Nodes(Protocol):
    """What nodes offer and what pods ask of them, devices one by one where they are known."""

    def stock(self, bound: Iterable[Pod]) -> Inventory:
        """What these pods leave of all nodes."""
        ...

    def requests(self, pod: Pod) -> tuple[DeviceRequest, ...] | str:
        """The devices that the pod asks for, or why it can never have them."""
        ...

    def plain(self, pod: Pod, requests: tuple[DeviceRequest, ...]) -> Pod:
        """The pod, with names of types of GPU as its nodes' devices are known by."""
        ...


def capped(wanted: int, template: Pod, own: Iterable[Pod], nodes: Nodes, pods: Iterable[Pod]) -> Room:
    """`own` are the revision's pods, `pods` those of the whole cluster, `template` one that would be created, with its priority.

    Room that pods of lower priority hold is room: they give way.
    """
    placed = [pod for pod in own if pod.spec.node_name and is_active(pod)]
    if wanted <= len(placed):
        return Room(wanted)
    stock, board = (
        nodes.stock(
            pod for pod in pods if pod.spec.node_name and not is_ended(pod) and not may_push(template, pod)
        ),
        Board(),
    )
    if not stock.rooms:
        return Room(wanted)
    requests = nodes.requests(template)
    if isinstance(requests, str):
        return Room(max(1, len(placed)), f"{wanted} are wanted, {len(placed)} can be placed: {requests}")
    pod = nodes.plain(template, requests)
    size = len(placed)
    while size < wanted:
        if size - len(placed) >= MAX_TRIED:
            return Room(size, f"{wanted} are wanted; {MAX_TRIED} more are asked for at a time")
        placement = place(pod, stock, requests, board=board)
        if not placement.node:
            why = f"{placement.message} {placement.hint}".strip()
            return Room(max(1, size), f"{wanted} are wanted, {size} can be placed: {why}")
        stock = stock.with_(template, placement.node, placement.shares)
        size += 1
    return Room(size)
