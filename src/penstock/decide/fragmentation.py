"""How much of a node's free GPU can the usual work not use?

Four answers in thousandths of a GPU, added up; placement takes the node that loses least.

- *Now*: what the usual shapes of pods can use of what is free, as it is at this moment. This is the fragmentation gradient of FGD
  (Weng et al., "Beware of Fragmentation", ATC'23), which counts a GPU as usable by a shape if the shape fits it.
- *At the end*: how far a GPU fills up if shapes arrive at random and each takes its part where it fits. It sees that 810 and 190 are a pair.
- *CPU*: free GPU is worth little on a node whose free cores do not suffice for it. FGD sees this only when the last core is gone.
- *Scarcity*: a GPU of a type is worth more, the more of the work insists on the type and the fewer there are. Who can run anywhere runs elsewhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from math import exp
from typing import NamedTuple

from msgspec import Struct

from penstock.contracts.devices import WHOLE_MILLI
from penstock.decide.inventory import GpuRoom

COVERED = 0.95
"""The typical shapes are the most frequent ones that make up this share of all pods (FGD)."""
STEEPNESS = 3.0
"""With just enough cores for its free GPUs a node counts as 1 - exp(-3) = 95 % useful, with half of them as 78 %."""
END_WEIGHT = 0.5
SCARCITY_WEIGHT = 1.0
MEMO_SIZE = 200_000
"""Values that are remembered. Beyond it all are forgotten: they are found again at once."""


class Shape(NamedTuple):
    """What pods ask for that are alike: cores, GPUs, thousandths of each; `types` are the only types that will do, empty for any."""

    cpu_milli: int
    gpus: int
    milli: int
    types: frozenset[str] = frozenset()


class Mix(Struct, frozen=True):
    """The usual work: shapes that ask for GPUs, with weights that add up to one together with `cpu_only`, the share of the others."""

    shapes: tuple[tuple[Shape, float], ...] = ()
    cpu_only: float = 0.0


def typical(counts: Iterable[tuple[Shape, float]], covered: float = COVERED) -> Mix:
    """The most frequent shapes that cover that share, their weights made to add up to one."""
    ordered = sorted(counts, key=lambda one: (-one[1], one[0][:3], sorted(one[0].types)))
    whole, kept, taken = sum(weight for _, weight in ordered), [], 0.0
    for shape, weight in ordered:
        if taken >= covered * whole:
            break
        kept.append((shape, weight))
        taken += weight
    shapes = tuple((shape, weight / taken) for shape, weight in kept if shape.gpus)
    return Mix(shapes, sum(weight for shape, weight in kept if not shape.gpus) / taken if taken else 0.0)


Free = tuple[int, ...]
"""Free thousandths of each GPU of a node, in ascending order."""


NO_SUPPLY: Mapping[str, int] = {}


class Worth:
    """What a node's free GPUs are worth to this mix. It remembers; for equal arguments the answer is equal."""

    def __init__(self, mix: Mix, supply: Mapping[str, int] = NO_SUPPLY) -> None:
        """`supply` is how many GPUs of each type there are in all. For another mix or supply make another Worth."""
        self.mix = mix
        self._scarcity = _scarcity(mix, supply)
        gpu = sum(weight * shape.gpus * shape.milli for shape, weight in mix.shapes)
        cpu = sum(weight * shape.cpu_milli for shape, weight in mix.shapes)
        self._cores_per_gpu = cpu / gpu if gpu else 0.0
        self._tables: dict[str, tuple[list[int], list[list[tuple[int, int, float]]]]] = {}
        self._now: dict[tuple[str, int, Free], float] = {}
        self._ends = _ends(mix)

    def of(self, gpu_type: str, cpu_milli: int, free: Free) -> float:
        """In thousandths of a GPU."""
        whole = sum(free)
        if not whole:
            return 0.0
        end = sum(map(self._ends.__getitem__, free))
        scarce = SCARCITY_WEIGHT * self._scarcity.get(gpu_type, 0.0) * whole
        return (
            self._usable_now(gpu_type, cpu_milli, free)
            + END_WEIGHT * end
            + self._fed(cpu_milli, whole)
            + scarce
        )

    def usable(self, gpu_type: str, cpu_milli: int, free: Free) -> float:
        """The part of it that FGD knows: what the usual shapes can use as it is now."""
        return self._usable_now(gpu_type, cpu_milli, free)

    def _usable_now(self, gpu_type: str, cpu_milli: int, free: Free) -> float:
        thresholds, rows = self._tables.get(gpu_type) or self._table(gpu_type)
        step = bisect_right(thresholds, cpu_milli)
        key = (gpu_type, step, free)
        known = self._now.get(key)
        if known is None:
            if len(self._now) >= MEMO_SIZE:
                self._now.clear()
            known = self._now[key] = _usable(rows[step], free)
        return known

    def _table(self, gpu_type: str) -> tuple[list[int], list[list[tuple[int, int, float]]]]:
        """For each number of free cores from which on more shapes fit: (GPUs, thousandths, weight) of those that do."""
        able = [(s, w) for s, w in self.mix.shapes if not s.types or gpu_type in s.types]
        thresholds = sorted({shape.cpu_milli for shape, _ in able})
        rows: list[list[tuple[int, int, float]]] = [[]]
        for cores in thresholds:
            sums: dict[tuple[int, int], float] = {}
            for shape, weight in able:
                if shape.cpu_milli <= cores:
                    key = (shape.gpus, shape.milli)
                    sums[key] = sums.get(key, 0.0) + weight
            rows.append([(count, milli, weight) for (count, milli), weight in sums.items()])
        self._tables[gpu_type] = thresholds, rows
        return thresholds, rows

    def _fed(self, cpu_milli: int, whole: int) -> float:
        if not self._cores_per_gpu:
            return float(whole)
        return whole * (1.0 - exp(-STEEPNESS * cpu_milli / (self._cores_per_gpu * whole)))


def _usable(rows: list[tuple[int, int, float]], free: Free) -> float:
    found = 0.0
    for count, milli, weight in rows:
        fitting = [one for one in free if one >= milli]
        if len(fitting) >= count:
            found += weight * sum(fitting)
    return found


def _ends(mix: Mix) -> list[float]:
    """For each number of free thousandths of one GPU: how many of them are filled when shapes arrive at random until none fits."""
    sums: dict[int, float] = {}
    for shape, weight in mix.shapes:
        milli = max(1, shape.milli) if shape.gpus == 1 else WHOLE_MILLI
        sums[milli] = sums.get(milli, 0.0) + weight
    ends: list[float] = []
    for free in range(WHOLE_MILLI + 1):
        fitting = [(need, weight) for need, weight in sums.items() if need <= free]
        whole = sum(weight for _, weight in fitting)
        filled = sum(weight * (need + ends[free - need]) for need, weight in fitting)
        ends.append(filled / whole if whole else 0.0)
    return ends


def _scarcity(mix: Mix, supply: Mapping[str, int]) -> dict[str, float]:
    """For each type: the share of the work that insists on it, by the share of the GPUs that are of it. Work that names several is divided."""
    there = sum(supply.values())
    asked = sum(weight * shape.gpus * shape.milli for shape, weight in mix.shapes)
    wanted: dict[str, float] = {}
    for shape, weight in mix.shapes:
        able = sum(supply.get(name, 0) for name in shape.types)
        for name in shape.types:
            part = weight * shape.gpus * shape.milli * supply.get(name, 0) / max(1, able)
            wanted[name] = wanted.get(name, 0.0) + part
    return {name: part * there / (asked * supply[name]) for name, part in wanted.items() if supply.get(name)}


def free_of(rooms: tuple[GpuRoom, ...]) -> Free:
    """What is free of a node's GPUs that can be had whole or in parts."""
    return tuple(sorted(room.free_milli for room in rooms if not room.gpu.is_mig and not room.gpu.taints))
