"""Where on a GPU may these MIG instances lie together?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from penstock.contracts.devices import GpuType, MigProfile

Layout = tuple[tuple[str, int], ...]
"""The instances of one GPU: a profile's name and start for each, by start."""


def lay_out(kind: GpuType, counts: Mapping[str, int]) -> Layout | None:
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
        mask = slices_of(first, start)
        if taken & mask:
            continue
        rest = _placed(others, taken | mask)
        if rest is not None:
            return [(first.name, start), *rest]
    return None


def full_layouts(kind: GpuType, names: Iterable[str], held: Layout = ()) -> tuple[Layout, ...]:
    """All layouts of these profiles beside the instances that are held, to which no instance of them can be added.

    Sorted. `held` must lie together; what it takes is taken from the rest.
    """
    known = {one.name: one for one in kind.profiles}
    wanted = [known[name] for name in sorted(set(names)) if name in known]
    full: set[Layout] = set()
    seen: set[Layout] = set()
    waiting: list[Layout] = [tuple(sorted(held, key=lambda place: place[1]))]
    while waiting:
        layout = waiting.pop()
        if layout in seen:
            continue
        seen.add(layout)
        grown = _grown(kind, known, wanted, layout)
        waiting += grown
        if not grown:
            full.add(layout)
    return tuple(sorted(full))


def slices_of(profile: MigProfile, start: int) -> int:
    """The memory slices that an instance takes: bit i for slice i."""
    return ((1 << profile.memory_slices) - 1) << start


def _grown(
    kind: GpuType, known: Mapping[str, MigProfile], wanted: Iterable[MigProfile], layout: Layout
) -> list[Layout]:
    """With one instance more."""
    compute, taken = kind.compute_slices, 0
    counts: dict[str, int] = {}
    for name, start in layout:
        counts[name] = counts.get(name, 0) + 1
        compute -= known[name].compute_slices
        taken |= slices_of(known[name], start)
    return [
        tuple(sorted((*layout, (one.name, start)), key=lambda place: place[1]))
        for one in wanted
        if one.compute_slices <= compute and counts.get(one.name, 0) < one.most
        for start in one.starts
        if not taken & slices_of(one, start)
    ]
