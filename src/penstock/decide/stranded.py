"""How much of what is free on these nodes' GPUs is of no use to the usual work as it is?

In thousandths of a GPU. Of GPUs that are divided by need it is what FGD counts as fragmented. Of a GPU in MIG mode it is what its free slices
lack of the placements that an empty one has: seven slices of which no 3g can be had are worth less than seven.
"""

from __future__ import annotations

from penstock.contracts.devices import WHOLE_MILLI
from penstock.decide.fragmentation import Worth
from penstock.decide.inventory import GpuRoom, Inventory, NodeRoom
from penstock.decide.mig_start import NO_DEMAND, Demand, options_left


def freed(before: Inventory, after: Inventory, worth: Worth, demand: Demand = NO_DEMAND) -> float:
    """How much less is stranded afterwards, negative where it is more; `demand` is for MIG profiles. Only nodes that differ are looked at."""
    return sum(
        stranded(before.rooms[name], worth, demand) - stranded(room, worth, demand)
        for name, room in after.rooms.items()
        if room is not before.rooms[name]
    )


def stranded(room: NodeRoom, worth: Worth, demand: Demand = NO_DEMAND) -> float:
    """On one node."""
    lost = sum(_of_mig(one, demand) for one in room.gpus if one.gpu.is_mig and one.gpu.type.profiles)
    if not room.divisible:
        return lost
    kind = next(one.gpu.type.name for one in room.gpus if not one.gpu.is_mig)
    usable = worth.usable(room.kind or kind, room.free.get("cpu", 0), room.divisible)
    return lost + sum(room.divisible) - usable


def _of_mig(room: GpuRoom, demand: Demand) -> float:
    kind = room.gpu.type
    most = options_left(kind, (1 << kind.memory_slices) - 1, kind.compute_slices, demand)
    if not most:
        return 0.0
    free = min(room.slices.bit_count() / kind.memory_slices, room.compute_slices / kind.compute_slices)
    left = options_left(kind, room.slices, room.compute_slices, demand)
    return WHOLE_MILLI * max(0.0, free - left / most)
