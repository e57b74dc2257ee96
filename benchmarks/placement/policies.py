"""Who places the tasks: Penstock's own decision, and the published rules that it is compared with, on the same inventory."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import compress, count
from math import exp
from operator import is_not
from typing import NamedTuple

from benchmarks.placement.cluster import Task, pod_of, shape_of, supply, usual

from penstock.contracts.devices import Share
from penstock.decide.board import Board
from penstock.decide.device_fit import Asker, Option, options
from penstock.decide.fragmentation import Worth
from penstock.decide.inventory import Inventory, NodeRoom, divisible
from penstock.decide.node_rules import insufficient
from penstock.decide.placement import place
from penstock.decide.pod_requests import needs_of
from penstock.decide.workload_mix import MixEstimate, is_other

Chosen = tuple[str, tuple[Share, ...]]
Policy = Callable[[Task, Inventory], Chosen | None]


class Product:
    """The product's decision; the usual work is known from the whole list, as it is to FGD."""

    def __init__(self, workload: str, seed: int) -> None:
        self._board = Board()
        self.worth = Worth(usual(workload), supply())

    def __call__(self, task: Task, stock: Inventory) -> Chosen | None:
        pod, asked = pod_of(task)
        found = place(pod, stock, asked, worth=self.worth, board=self._board)
        return (found.node, found.shares) if found.node else None

    def prepare(self, stock: Inventory) -> None:
        """What the host does after a pod is bound."""
        self._board.prepare(list(stock.rooms.values()), self.worth)


class Learning(Product):
    """The same, but the usual work is what has arrived so far, as it is in service."""

    def __init__(self, workload: str, seed: int) -> None:
        super().__init__(workload, seed)
        self._supply, self._estimate, self._arrived, self._new = supply(), MixEstimate(), 0, 0
        self.worth = Worth(self._estimate.mix(), self._supply)

    def __call__(self, task: Task, stock: Inventory) -> Chosen | None:
        self._arrived, self._new = self._arrived + 1, self._new + 1
        self._estimate = self._estimate.with_arrival(shape_of(task), float(self._arrived))
        if self._estimate.is_due(self._new):
            self._new, mix = 0, self._estimate.mix()
            if is_other(self.worth.mix, mix):
                self.worth = Worth(mix, self._supply)
        return super().__call__(task, stock)


class Candidate(NamedTuple):
    """A node that fits, with one way to do it."""

    room: NodeRoom
    option: Option


Score = Callable[[Candidate, Task], float]


class Scan:
    """All candidates of a task on every node, the best by a score that is less where better; nodes that did not change are not rated again."""

    def __init__(self, score: Score) -> None:
        self._score = score
        self._known: dict[Task, tuple[list[NodeRoom], list[float]]] = {}

    def __call__(self, task: Task, stock: Inventory) -> Chosen | None:
        rooms = list(stock.rooms.values())
        if task in self._known:
            seen, scores = self._known[task]
            for index in compress(count(), map(is_not, rooms, seen)):
                scores[index] = self._best(task, rooms[index])[0]
        else:
            alike = {room.residual: room for room in rooms}
            rated = {residual: self._best(task, room)[0] for residual, room in alike.items()}
            scores = [rated[room.residual] for room in rooms]
        self._known[task] = rooms, scores
        best = min(scores)
        if best == float("inf"):
            return None
        room = rooms[scores.index(best)]
        found = self._best(task, room)[1]
        return None if found is None else (room.name, found.shares)

    def _best(self, task: Task, room: NodeRoom) -> tuple[float, Option | None]:
        pod, asked = pod_of(task)
        if insufficient(needs_of(pod), room):
            return float("inf"), None
        found = options(asked, room.gpus, Asker())
        if isinstance(found, str):
            return float("inf"), None
        return min(((self._score(Candidate(room, one), task), one) for one in found), key=lambda one: one[0])


def fgd(workload: str, seed: int) -> Policy:
    """FGD as its authors' simulator rates: a whole number from 0 to 100; of equal nodes the first by name."""
    worth = Worth(usual(workload))

    def lost(candidate: Candidate, task: Task) -> float:
        room = candidate.room
        before, after = room.divisible, divisible(candidate.option.left)
        cpu = room.free["cpu"]
        fragments = sum(before) - worth.usable(room.kind, cpu, before)
        later = sum(after) - worth.usable(room.kind, cpu - task.cpu_milli, after)
        return -float(int(100 / (1 + exp(-(fragments - later) / 1000))))

    return Scan(lost)


def best_fit(workload: str, seed: int) -> Policy:
    """The node on which least is left, GPUs and cores in equal parts of the largest node's."""

    def left(candidate: Candidate, task: Task) -> float:
        room = candidate.room
        gpus = sum(divisible(candidate.option.left)) / 8000
        return gpus + (room.free["cpu"] - task.cpu_milli) / 128_000

    return Scan(left)


def at_random(workload: str, seed: int) -> Policy:
    """Any node that fits."""
    draw = random.Random(seed + 1000)

    def choose(task: Task, stock: Inventory) -> Chosen | None:
        pod, asked = pod_of(task)
        needs = needs_of(pod)
        rooms = list(stock.rooms.values())
        for room in draw.sample(rooms, len(rooms)):
            if not insufficient(needs, room):
                found = options(asked, room.gpus, Asker())
                if not isinstance(found, str):
                    return room.name, draw.choice(found).shares
        return None

    return choose


POLICIES: dict[str, Callable[[str, int], Policy]] = {
    "penstock": Product,
    "penstock, learning": Learning,
    "FGD here": fgd,
    "best fit here": best_fit,
    "random here": at_random,
}
