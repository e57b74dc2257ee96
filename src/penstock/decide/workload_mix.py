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
NEW_SHARE = 0.02
"""Of all counted pods, the share that has to be new before it is looked at whether what is usual has changed."""
ALIKE = 0.05
"""Mixes that differ by less of the work are the same: what is remembered of nodes holds on, and estimates are no better than that."""


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

    def is_due(self, new: int) -> bool:
        """Whether to look at `mix` again, after so many arrivals that have not been looked at."""
        return new > NEW_SHARE * sum(self.counts.values())


def is_other(known: Mix, mix: Mix) -> bool:
    """Whether what is usual has become something else."""
    return distance(known, mix) > ALIKE


def distance(one: Mix, other: Mix) -> float:
    """The share of the work, 0 to 1, that would have to be of another shape to make one of the other (total variation distance)."""
    first, second = dict(one.shapes), dict(other.shapes)
    apart = sum(abs(first.get(shape, 0.0) - second.get(shape, 0.0)) for shape in first.keys() | second.keys())
    return (apart + abs(one.cpu_only - other.cpu_only)) / 2.0


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
