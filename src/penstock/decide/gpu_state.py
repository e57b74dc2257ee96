"""What could a pod that takes GPUs leave of those of one node?

Of GPUs of one type that are had whole or in parts only their counters matter, not which is which. Answers are remembered, because pods of
a few kinds ask again and again.
"""

from __future__ import annotations

from penstock.contracts.devices import WHOLE_MILLI
from penstock.decide.fragmentation import Free, Swaps, Worth
from penstock.decide.inventory import NodeRoom

TIGHT_GPU, TIGHT_CPU = 5.0 / 8000, 5.0 / 96000
"""What a free thousandth of a GPU, and of a core, adds to the loss: of equal nodes the fuller one is taken."""


class GpuState:
    """The GPUs of one node (`NodeRoom.kind` is not ""), and what they are worth as they are."""

    __slots__ = (
        "_cpu",
        "_gpus",
        "_memory_bytes",
        "_swaps",
        "_untouched",
        "_worth",
        "_worth_of",
        "free",
        "kind",
    )

    def __init__(self, room: NodeRoom) -> None:
        """Of the node as it is now."""
        self.kind = room.kind
        self.free: Free = room.divisible
        self._cpu = room.free.get("cpu", 0)
        self._gpus = {(gpu.free_milli, gpu.milli, gpu.memory_bytes) for gpu in room.gpus}
        self._untouched = sum(gpu.is_whole for gpu in room.gpus)
        self._memory_bytes = max(1, room.gpus[0].gpu.type.memory_bytes)
        self._swaps: dict[tuple[int, int], Swaps] = {}
        self._worth_of: Worth | None = None
        self._worth = 0.0

    def worth(self, worth: Worth) -> float:
        """`standing_worth`, found once."""
        if self._worth_of is not worth:
            self._worth_of = worth
            self._worth = standing_worth(worth, self.kind, self._cpu, self.free)
        return self._worth

    def swaps(self, milli: int, memory_bytes: int) -> Swaps:
        """One GPU whole, or a part of it (`DeviceRequest`): what each choice that differs makes of which number. None where it does not fit."""
        key = milli, memory_bytes
        known = self._swaps.get(key)
        if known is None:
            known = self._swaps[key] = self._swapped(milli, memory_bytes)
        return known

    def without(self, count: int) -> Free | None:
        """So many GPUs whole; None where there are not so many."""
        return (0,) * count + self.free[:-count] if count <= self._untouched else None

    def _swapped(self, milli: int, memory_bytes: int) -> Swaps:
        if milli >= WHOLE_MILLI:
            return ((WHOLE_MILLI, 0),) if self._untouched else ()
        whole = self._memory_bytes
        wanted = memory_bytes or whole * milli // WHOLE_MILLI
        return tuple(
            sorted(
                {
                    (free, min(left - milli, (memory - wanted) * WHOLE_MILLI // whole))
                    for free, left, memory in self._gpus
                    if memory >= wanted and left >= milli
                }
            )
        )


def standing_worth(worth: Worth, kind: str, cpu_milli: int, free: Free) -> float:
    """What a node is worth as it is, and a little for what stays empty there."""
    return worth.of(kind, cpu_milli, free) + TIGHT_GPU * sum(free) + TIGHT_CPU * cpu_milli
