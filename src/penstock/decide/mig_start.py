"""Where on this GPU is a new MIG instance least in the way of what may come?

Each profile may start only at certain memory slices (NVIDIA MIG User Guide), so that an instance at the wrong place forbids larger ones for
as long as it lives. The start is taken that leaves most: the sum over all profiles of the compute slices that they are asked for with, times
how many of their placements are still free. Slices, because small placements are plenty: if each counted one, the many that a nearly full
GPU has would weigh more than the last place for a large instance. First fit from 0 is the worst choice: one 1g at 0 already forbids 4g.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.contracts.devices import GpuType, MigProfile
from penstock.decide.inventory import GpuRoom

Demand = Mapping[str, float]
"""How much each profile is asked for, in any unit; without any, all are asked for alike."""
NO_DEMAND: Demand = {}


def options_left(kind: GpuType, slices: int, compute_slices: int, demand: Demand = NO_DEMAND) -> float:
    """The placements that free memory slices (bits) and compute slices still allow, each as its profile's compute slices, weighted by demand."""
    whole = sum(demand.values())
    return sum(
        (demand.get(profile.name, 0.0) / whole if whole else 1.0 / len(kind.profiles))
        * profile.compute_slices
        * len(starts_of(profile, slices, compute_slices))
        for profile in kind.profiles
    )


def starts_of(profile: MigProfile, slices: int, compute_slices: int) -> list[int]:
    """Where an instance could be made now."""
    if profile.compute_slices > compute_slices:
        return []
    mask = (1 << profile.memory_slices) - 1
    return [start for start in profile.starts if (slices >> start) & mask == mask]


def best_start(room: GpuRoom, profile: MigProfile, demand: Demand = NO_DEMAND) -> tuple[float, int] | None:
    """What is lost of the options, and the start; None where it does not fit. Of equal starts the last: 4g and 7g start at 0."""
    slices = room.slices & ~_standing(room)
    before = options_left(room.gpu.type, slices, room.compute_slices, demand)
    mask = (1 << profile.memory_slices) - 1
    choices = [
        (
            before
            - options_left(
                room.gpu.type, slices & ~(mask << start), room.compute_slices - profile.compute_slices, demand
            ),
            -start,
        )
        for start in starts_of(profile, slices, room.compute_slices)
    ]
    if not choices:
        return None
    loss, start = min(choices)
    return loss, -start


def _standing(room: GpuRoom) -> int:
    """The slices of instances that exist, whether held or not: a new one cannot be made there."""
    sizes = {profile.name: profile.memory_slices for profile in room.gpu.type.profiles}
    taken = 0
    for instance in room.gpu.instances:
        taken |= ((1 << sizes.get(instance.profile, 0)) - 1) << instance.start
    return taken
