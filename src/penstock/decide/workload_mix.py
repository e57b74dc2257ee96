"""Which shapes of pods are usual here?

Every arrival counts one, and half of that after `HALF_LIFE_S`: the estimate follows the work as it changes. It is a value; what has arrived
long ago and seldom is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from penstock.contracts.devices import WHOLE_MILLI, DeviceRequest, Gpu
from penstock.decide.fragmentation import Mix, Shape, typical

HALF_LIFE_S = 7 * 86_400.0
MOST_SHAPES = 512
"""Of more shapes the least usual are forgotten."""
NEGLIGIBLE = 1e-3


class MixEstimate(Struct, frozen=True):
    """`counts` are what they were at `at`; between two arrivals all decay alike."""

    counts: dict[Shape, float] = {}
    at: float = 0.0

    def with_arrival(self, shape: Shape, now: float) -> MixEstimate:
        """With one more pod, that arrived `now` (seconds)."""
        decay = 0.5 ** (max(0.0, now - self.at) / HALF_LIFE_S)
        counts = {one: count * decay for one, count in self.counts.items()}
        counts[shape] = counts.get(shape, 0.0) + 1.0
        if len(counts) > MOST_SHAPES:
            least = min(counts, key=lambda one: (counts[one], one[:3], sorted(one.types)))
            del counts[least]
        return MixEstimate(
            {one: count for one, count in counts.items() if count > NEGLIGIBLE}, max(self.at, now)
        )

    def mix(self) -> Mix:
        """The typical shapes by now."""
        return typical(self.counts.items())


def shape_of(cpu_milli: int, requests: Iterable[DeviceRequest], gpus: Iterable[Gpu]) -> Shape:
    """What a pod asks for, as a shape. A part by memory is measured on the smallest GPU that will do.

    MIG instances and replicas of shared GPUs are not had from GPUs that are divided by need: they count as work without GPUs.
    """
    asked = [one for one in requests if not (one.profile or one.is_shared)]
    if not asked:
        return Shape(cpu_milli, 0, 0)
    first = asked[0]
    count = sum(one.count for one in asked)
    if not first.memory_bytes:
        return Shape(cpu_milli, count, first.milli, first.types)
    able = [
        gpu.type.memory_bytes
        for gpu in gpus
        if (not first.types or gpu.type.name in first.types) and gpu.type.memory_bytes >= first.memory_bytes
    ]
    part = WHOLE_MILLI * first.memory_bytes // min(able, default=first.memory_bytes)
    return Shape(cpu_milli, count, max(1, part, first.milli), first.types)
