"""What could a pod that takes GPUs leave of those of one node?

Of GPUs of one type that are had whole or in parts only their counters matter, not which is which. Answers are remembered, because pods of
a few kinds ask again and again.
"""

from __future__ import annotations

from bisect import insort
from math import inf
from typing import NamedTuple

from penstock.contracts.devices import WHOLE_MILLI, DeviceRequest
from penstock.decide.fragmentation import Free, Table, Worth
from penstock.decide.inventory import NodeRoom

TIGHT_GPU, TIGHT_CPU = 5.0 / 8000, 5.0 / 96000
"""What a free thousandth of a GPU, and of a core, adds to the loss: of equal nodes the fuller one is taken."""
MOST_REMEMBERED = 512
"""Losses that one state keeps. Beyond it all are forgotten: they are found again at once."""
DIGITS = 8
"""Losses that are equal to so many digits of a thousandth of a GPU are equal: they differ by the order in which they were added up."""
Swaps = tuple[tuple[int, int], ...]
"""What a pod that takes one GPU or a part of it could do: the free thousandths of that GPU before and after."""


class Taking(NamedTuple):
    """What a pod takes of a node (`DeviceRequest`): cores, and no GPU, one whole or in part, or several whole."""

    cpu_milli: int
    gpus: int = 0
    milli: int = 0
    memory_bytes: int = 0


class GpuState:
    """The GPUs of one node (`NodeRoom.kind` is not ""), and what they are worth as they are."""

    __slots__ = (
        "_before", "_cpu_milli", "_gpus", "_losses", "_memory_bytes", "_most_memory", "_sums", "_swaps", "_untouched",
        "_whole", "_worth", "free", "kind",
    )  # fmt: skip

    def __init__(self, room: NodeRoom) -> None:
        """Of the node as it is now."""
        self.kind = room.kind
        self.free: Free = room.divisible
        self._cpu_milli = room.free.get("cpu", 0)
        self._gpus = {(gpu.free_milli, gpu.milli, gpu.memory_bytes) for gpu in room.gpus}
        self._untouched = sum(gpu.is_whole for gpu in room.gpus)
        self._most_memory = max(gpu.memory_bytes for gpu in room.gpus)
        self._memory_bytes = max(1, room.gpus[0].gpu.type.memory_bytes)
        self._swaps: dict[tuple[int, int], Swaps] = {}
        self._whole = sum(self.free)
        self._worth: Worth | None = None
        self._before = 0.0
        self._sums: dict[Table, float] = {}
        self._losses: dict[Taking, float] = {}

    def loss(self, worth: Worth, taking: Taking) -> float:
        """What the usual work can no longer use, and a little for what stays empty here; `inf` where there is not so much."""
        if self._worth is not worth:
            self._worth = worth
            self._before = standing_worth(worth, self.kind, self._cpu_milli, self.free)
            self._sums.clear()
            self._losses.clear()
        known = self._losses.get(taking)
        if known is None:
            if len(self._losses) >= MOST_REMEMBERED:
                self._losses.clear()
                self._swaps.clear()
            known = self._losses[taking] = self._lost(worth, taking)
        return known

    def _lost(self, worth: Worth, taking: Taking) -> float:
        cpu_milli = self._cpu_milli - taking.cpu_milli
        if cpu_milli < 0:
            return inf
        if taking.gpus == 1:
            swaps = self._swapped_by(taking.milli, taking.memory_bytes)
            left = self._left(worth, cpu_milli, swaps) if swaps else -inf
        elif not taking.gpus:
            left = self._sum(worth.table(self.kind, cpu_milli)) + worth.fed(cpu_milli, self._whole)
        elif taking.gpus <= self._untouched:
            after = (0,) * taking.gpus + self.free[: len(self.free) - taking.gpus]
            left = worth.of(self.kind, cpu_milli, after)
        else:
            left = -inf
        return round(self._before - left, DIGITS) if left > -inf else inf

    def _sum(self, table: Table) -> float:
        """`table.of` what is free."""
        known = self._sums.get(table)
        if known is None:
            known = self._sums[table] = table.of(self.free)
        return known

    def _left(self, worth: Worth, cpu_milli: int, swaps: Swaps) -> float:
        """The most that it can be worth, with so many cores, after one of the swaps, of which there is at least one."""
        table = worth.table(self.kind, cpu_milli)
        here = self._sum(table)
        alone, fed, taken, found = table.alone, 0.0, -1, -inf
        for before, after in swaps:
            if before - after != taken:
                taken = before - after
                fed = worth.fed(cpu_milli, self._whole - taken)
            value = fed + alone[after] - alone[before]
            if before >= table.lowest:
                value += table.together(swapped(self.free, before, after)) - table.together(self.free)
            found = max(found, value)
        return here + found

    def nearness(self, request: DeviceRequest) -> float:
        """`device_fit.nearness`, of what is usual."""
        if request.types and self.kind not in request.types:
            return 0.0
        if request.memory_bytes:
            return self._most_memory / request.memory_bytes
        return self._untouched / max(1, request.count)

    def _swapped_by(self, milli: int, memory_bytes: int) -> Swaps:
        key = milli, memory_bytes
        known = self._swaps.get(key)
        if known is None:
            known = self._swaps[key] = self._swapped(milli, memory_bytes)
        return known

    def _swapped(self, milli: int, memory_bytes: int) -> Swaps:
        """What each choice that differs makes of which number. None where it does not fit."""
        if milli >= WHOLE_MILLI:
            return ((WHOLE_MILLI, 0),) if self._untouched else ()
        whole = self._memory_bytes
        wanted = memory_bytes or whole * milli // WHOLE_MILLI
        return tuple(
            {
                (free, min(left - milli, (memory - wanted) * WHOLE_MILLI // whole))
                for free, left, memory in self._gpus
                if memory >= wanted and left >= milli
            }
        )


def is_usual(request: DeviceRequest) -> bool:
    """Whether only the counters of GPUs matter: a part of one, or any number of them whole."""
    if request.profile or request.is_shared or request.claim:
        return False
    return request.count == 1 or request.milli >= WHOLE_MILLI


def swapped(free: Free, before: int, after: int) -> Free:
    """With one number replaced by another."""
    left = list(free)
    left.remove(before)
    insort(left, after)
    return tuple(left)


def standing_worth(worth: Worth, kind: str, cpu_milli: int, free: Free) -> float:
    """What a node is worth as it is, and a little for what stays empty there."""
    return worth.of(kind, cpu_milli, free) + TIGHT_GPU * sum(free) + TIGHT_CPU * cpu_milli
