"""How much of a node's free GPU can the usual work not use?

Four answers in thousandths of a GPU, added up; placement takes the node that loses least.

- *Now*: what the usual shapes of pods can use of what is free, as it is at this moment. This is the fragmentation gradient of FGD
  (Weng et al., "Beware of Fragmentation", ATC'23), which counts a GPU as usable by a shape if the shape fits it.
- *At the end*: how far a GPU fills up if shapes arrive at random and each takes its part where it fits. It sees that 810 and 190 are a pair.
- *CPU*: free GPU is worth little on a node whose free cores do not suffice for it. FGD sees this only when the last core is gone.
- *Scarcity*: a GPU of a type is worth more, the more of the work insists on the type and the fewer there are. Who can run anywhere runs elsewhere.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from math import exp
from typing import NamedTuple

from msgspec import Struct

from penstock.contracts.devices import WHOLE_MILLI

COVERED = 0.95
"""The typical shapes are the most frequent ones that make up this share of all pods (FGD)."""
STEEPNESS = 3.0
"""With just enough cores for its free GPUs a node counts as 1 - exp(-3) = 95 % useful, with half of them as 78 %."""
END_WEIGHT = 0.5
SCARCITY_WEIGHT = 1.0
MEMO_SIZE = 10_000
"""Values that a table remembers. Beyond it all are forgotten: they are found again at once."""


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
        self._thresholds: dict[str, list[int]] = {}
        self._tables: dict[tuple[str, int], Table] = {}
        self._ends = _ends(mix)

    def of(self, gpu_type: str, cpu_milli: int, free: Free) -> float:
        """In thousandths of a GPU."""
        return self.table(gpu_type, cpu_milli).of(free) + self.fed(cpu_milli, sum(free))

    def usable(self, gpu_type: str, cpu_milli: int, free: Free) -> float:
        """The part of it that FGD knows: what the usual shapes can use as it is now."""
        return self.table(gpu_type, cpu_milli).usable(free)

    def table(self, gpu_type: str, cpu_milli: int) -> Table:
        """There is one from each number of free cores on from which more shapes fit."""
        thresholds = self._thresholds.get(gpu_type)
        if thresholds is None:
            thresholds = sorted({shape.cpu_milli for shape, _ in self._able(gpu_type)})
            self._thresholds[gpu_type] = thresholds
        step = bisect_right(thresholds, cpu_milli)
        table = self._tables.get((gpu_type, step))
        if table is None:
            fitting = [one for one in self._able(gpu_type) if one[0].cpu_milli <= cpu_milli]
            scarcity = SCARCITY_WEIGHT * self._scarcity.get(gpu_type, 0.0)
            table = self._tables[gpu_type, step] = Table(fitting, self._ends, scarcity)
        return table

    def _able(self, gpu_type: str) -> list[tuple[Shape, float]]:
        return [one for one in self.mix.shapes if not one[0].types or gpu_type in one[0].types]

    def fed(self, cpu_milli: int, whole: int) -> float:
        """What so many free cores add to so many free thousandths."""
        if not self._cores_per_gpu or not whole:
            return float(whole)
        return whole * (1.0 - exp(-STEEPNESS * cpu_milli / (self._cores_per_gpu * whole)))


class Table:
    """What free GPUs are worth to the shapes that fit by type and cores: one by one, and together to those who ask for several.

    `alone` is by free thousandths of one GPU; below `lowest` free thousandths a GPU is of no use together with others.
    """

    __slots__ = ("_groups", "_known", "_usable", "alone", "lowest")

    def __init__(self, able: Iterable[tuple[Shape, float]], ends: list[float], scarcity: float) -> None:
        """`ends` as `_ends`, `scarcity` in thousandths of a GPU for each that is free."""
        gains = [0.0] * (WHOLE_MILLI + 1)
        groups: dict[tuple[int, int], float] = {}
        for shape, weight in able:
            if shape.gpus > 1:
                key = shape.gpus, shape.milli
                groups[key] = groups.get(key, 0.0) + weight
            elif shape.milli <= WHOLE_MILLI:
                gains[shape.milli] += weight
        self._usable = [free * gain for free, gain in enumerate(accumulate(gains))]
        self.alone = [
            now + END_WEIGHT * end + scarcity * free
            for free, (now, end) in enumerate(zip(self._usable, ends, strict=True))
        ]
        self._groups = sorted(groups.items())
        self._known: dict[Free, float] = {}
        self.lowest = min((milli for _, milli in groups), default=WHOLE_MILLI + 1)

    def of(self, free: Free) -> float:
        """All of it."""
        return sum(map(self.alone.__getitem__, free)) + self.together(free)

    def usable(self, free: Free) -> float:
        """What is of use as it is now."""
        return sum(map(self._usable.__getitem__, free)) + self.together(free)

    def together(self, free: Free) -> float:
        """What those who ask for several GPUs can use."""
        large = free[bisect_left(free, self.lowest) :]
        known = self._known.get(large)
        if known is None:
            if len(self._known) >= MEMO_SIZE:
                self._known.clear()
            known = self._known[large] = self._together(large)
        return known

    def _together(self, free: Free) -> float:
        found = 0.0
        for (count, milli), weight in self._groups:
            first = bisect_left(free, milli)
            if len(free) - first >= count:
                found += weight * sum(free[first:])
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
