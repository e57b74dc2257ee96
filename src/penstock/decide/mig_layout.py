"""Where on a GPU may these MIG instances lie together?"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.contracts.devices import GpuType, MigProfile


def lay_out(kind: GpuType, counts: Mapping[str, int]) -> tuple[tuple[str, int], ...] | None:
    """A profile's name and start for each instance, by start; None where they do not fit together.

    Exact: all placements are tried, the largest profiles first. A GPU has at most eight slices, so there are few.
    """
    wanted: list[MigProfile] = []
    for profile in sorted(kind.profiles, key=lambda one: (-one.memory_slices, -one.compute_slices, one.name)):
        count = counts.get(profile.name, 0)
        if count > profile.most:
            return None
        wanted += [profile] * count
    if sum(one.compute_slices for one in wanted) > kind.compute_slices:
        return None
    found = _placed(wanted, 0)
    return None if found is None else tuple(sorted(found, key=lambda place: place[1]))


def _placed(wanted: list[MigProfile], taken: int) -> list[tuple[str, int]] | None:
    """`taken` has bit i for memory slice i."""
    if not wanted:
        return []
    first, *others = wanted
    for start in first.starts:
        mask = ((1 << first.memory_slices) - 1) << start
        if taken & mask:
            continue
        rest = _placed(others, taken | mask)
        if rest is not None:
            return [(first.name, start), *rest]
    return None
