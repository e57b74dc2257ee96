"""Which MIG layout serves the expected demand?

`demand` says of each profile how many instances would be in use at a time if there were enough of them. Of so many as there are, Erlang's loss
formula (1917) tells how many will be: pods come at random, and one that finds no instance goes elsewhere. A profile's instances count by the
share of a GPU that they take. What a plan gains for `Terms.horizon_s` must be more than what it costs; where it is not, what is there stays.

What a pod holds is never touched: its instance keeps its start and its slices in every layout that is considered, and so does a GPU that was
changed a short while ago, is tainted, is held as a whole, or offers its instances as whole GPUs. A change can be taken back with `rollback`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil

from msgspec import Struct

from penstock.contracts.devices import Gpu, GpuType, MigProfile
from penstock.decide.inventory import Inventory, NodeRoom
from penstock.decide.mig_cover import Option, cover
from penstock.decide.mig_layout import Layout, full_layouts, slices_of
from penstock.decide.mig_start import Demand

NEVER: Mapping[str, float] = {}


class Terms(Struct, frozen=True, kw_only=True):
    """For `relayout_s` the slices that are laid out anew serve nobody (the device plugin starts again); a layout is expected to stay for
    `horizon_s`, and does stay for `rest_s`. All in seconds.
    """

    relayout_s: float = 60.0
    horizon_s: float = 3600.0
    rest_s: float = 900.0


TERMS = Terms()


class Change(Struct, frozen=True, kw_only=True):
    """One GPU's layouts; `destroyed` and `created` are what tells them apart. `cost_gpu_s`: GPU-seconds that serve nobody meanwhile."""

    node: str
    gpu: str
    index: int
    before: Layout
    after: Layout
    destroyed: Layout
    created: Layout
    cost_gpu_s: float = 0.0
    reason: str = ""


class Plan(Struct, frozen=True, kw_only=True):
    """`changes` by node and index, none if nothing is better than what is; `layouts` are all GPUs' afterwards, by UUID.

    `in_use_before` and `in_use_after` are the GPUs' worth of instances expected to be in use, `cost_gpu_s` what all changes cost. No plan gains
    more than `beyond_gpu_s` on top of this one: 0 says that it is the best. `left` says of GPUs why they stay as they are, `held` are those of
    which pods hold a part.
    """

    changes: tuple[Change, ...]
    layouts: dict[str, Layout]
    message: str
    in_use_before: float = 0.0
    in_use_after: float = 0.0
    cost_gpu_s: float = 0.0
    beyond_gpu_s: float = 0.0
    left: tuple[tuple[str, str], ...] = ()
    held: tuple[str, ...] = ()


_Alike = tuple[str, Layout, Layout, bool]


class _Seat(Struct, frozen=True):
    """A GPU in MIG mode: its layout now, and what of it pods hold. `why` says why nothing may change, "" where it may."""

    node: str
    gpu: Gpu
    now: Layout
    held: Layout
    why: str = ""

    @property
    def alike(self) -> _Alike:
        """What is the same for GPUs that can be laid out alike at the same cost."""
        return self.gpu.type.name, self.now, self.held, bool(self.why)


def plan_layouts(
    inventory: Inventory,
    demand: Demand,
    *,
    now: float = 0.0,
    changed_at: Mapping[str, float] = NEVER,
    terms: Terms = TERMS,
) -> Plan:
    """Over all GPUs in MIG mode. `changed_at` says when each was laid out last, by UUID, in the seconds of `now`.

    What is not in `demand` is worth nothing. A GPU without instances, that is partitioned as pods need it, is laid out like any other: pass an
    inventory without it to leave it so.
    """
    seats = [seat for room in inventory.rooms.values() for seat in _seats(room, now, changed_at, terms)]
    profiles = _profiles(seats, demand)
    known: dict[_Alike, list[tuple[Layout, Option]]] = {}
    for seat in seats:
        if seat.alike not in known:
            known[seat.alike] = [
                (one, Option(_counts(one, profiles), _cost(seat, one, terms)))
                for one in _layouts(seat, profiles)
            ]
    layouts = [[layout for layout, _ in known[seat.alike]] for seat in seats]
    options = [[option for _, option in known[seat.alike]] for seat in seats]
    most = [sum(max(one.counts[at] for one in some) for some in options) for at in range(len(profiles))]
    tables = [
        [terms.horizon_s * weight * count for count in in_use(demand[name], number)]
        for (name, weight), number in zip(profiles.items(), most, strict=True)
    ]
    found = cover(options, tables)
    changes = tuple(
        _change(seat, some[at], demand, terms)
        for seat, some, at in zip(seats, layouts, found.choice, strict=True)
        if at
    )
    before, after = (
        sum(table[_total(options, choice, at)] for at, table in enumerate(tables)) / terms.horizon_s
        for choice in ((0,) * len(seats), found.choice)
    )
    return Plan(
        changes=changes,
        layouts={s.gpu.uuid: some[at] for s, some, at in zip(seats, layouts, found.choice, strict=True)},
        message=_message(changes, before, after, terms),
        in_use_before=before,
        in_use_after=after,
        cost_gpu_s=sum(one.cost_gpu_s for one in changes),
        beyond_gpu_s=found.bound - found.worth,
        left=tuple((seat.gpu.uuid, seat.why) for seat in seats if seat.why),
        held=_held(seats),
    )


def rollback(plan: Plan, inventory: Inventory, terms: Terms = TERMS) -> Plan:
    """The layouts that were there before, on the GPUs where no pod has taken what was created since; `left` names the others."""
    seats = {
        seat.gpu.uuid: seat for room in inventory.rooms.values() for seat in _seats(room, 0.0, NEVER, terms)
    }
    changes, left = [], []
    for one in plan.changes:
        seat = seats.get(one.gpu)
        if seat is None or seat.why:
            left.append((one.gpu, seat.why if seat else "it is no longer there"))
        elif taken := sorted(set(seat.held) - set(one.before)):
            left.append((one.gpu, f"{_words(tuple(taken))} is held by a pod"))
        elif seat.now != one.before:
            changes.append(
                Change(
                    node=one.node,
                    gpu=one.gpu,
                    index=one.index,
                    before=seat.now,
                    after=one.before,
                    destroyed=_less(seat.now, one.before),
                    created=_less(one.before, seat.now),
                    cost_gpu_s=_cost(seat, one.before, terms),
                    reason="as it was before",
                )
            )
    return Plan(
        changes=tuple(changes),
        layouts={
            **{uuid: seat.now for uuid, seat in seats.items()},
            **{one.gpu: one.after for one in changes},
        },
        message=f"{len(changes)} of {len(plan.changes)} GPUs go back to their layouts",
        cost_gpu_s=sum(one.cost_gpu_s for one in changes),
        left=tuple(left),
        held=_held(seats.values()),
    )


def in_use(demand: float, most: int) -> list[float]:
    """How many of 0, 1, … `most` instances are in use on average (Erlang B; `demand` in erlang)."""
    lost, found = 1.0, [0.0]
    for number in range(1, most + 1):
        lost = demand * lost / (number + demand * lost)
        found.append(demand * (1.0 - lost))
    return found


def share_of(kind: GpuType, profile: MigProfile) -> float:
    """How much of a GPU an instance takes: of compute or of memory, whichever is scarcer."""
    return max(profile.compute_slices / kind.compute_slices, profile.memory_slices / kind.memory_slices)


def _seats(room: NodeRoom, now: float, changed_at: Mapping[str, float], terms: Terms) -> list[_Seat]:
    held: dict[str, set[tuple[str, int]]] = {}
    whole: set[str] = set()
    for share in (share for one in room.held for share in one.shares):
        if share.profile and share.start >= 0:
            held.setdefault(share.gpu, set()).add((share.profile, share.start))
        else:
            whole.add(share.gpu)
    found = []
    for gpu in (one.gpu for one in room.gpus):
        if not gpu.is_mig or not gpu.type.profiles:
            continue
        mine = held.get(gpu.uuid, set())
        there = mine | {(one.profile, one.start) for one in gpu.instances}
        rests_s = terms.rest_s - (now - changed_at[gpu.uuid]) if gpu.uuid in changed_at else 0.0
        why = ""
        if gpu.taints:
            why = f"it has the taint {gpu.taints[0].key}"
        elif gpu.uuid in whole:
            why = "a pod holds it as a whole"
        elif gpu.mig_strategy == "single":
            why = "it offers its instances as whole GPUs, which must be of one size"
        elif {name for name, _ in there} - {one.name for one in gpu.type.profiles}:
            why = "it has an instance of a profile that its type is not known for"
        elif rests_s > 0:
            why = f"it was laid out a short while ago, and stays for {ceil(rests_s)} s more"
        found.append(_Seat(room.name, gpu, _sorted(there), _sorted(mine), why))
    return found


def _held(seats: Iterable[_Seat]) -> tuple[str, ...]:
    return tuple(seat.gpu.uuid for seat in seats if seat.held)


def _profiles(seats: list[_Seat], demand: Demand) -> dict[str, float]:
    """The profiles that are asked for and that one of the GPUs has, by name, with the share of a GPU that one takes (the largest, if types differ)."""
    found: dict[str, float] = {}
    for kind in {seat.gpu.type.name: seat.gpu.type for seat in seats}.values():
        for one in kind.profiles:
            if demand.get(one.name, 0.0) > 0:
                found[one.name] = max(found.get(one.name, 0.0), share_of(kind, one))
    return dict(sorted(found.items()))


def _layouts(seat: _Seat, profiles: Mapping[str, float]) -> list[Layout]:
    """What is there first; then, of those with the same instances in other places, the one for which least is laid out anew."""
    if seat.why:
        return [seat.now]
    names = {*profiles, *(name for name, _ in seat.now)}
    best: dict[tuple[str, ...], tuple[int, Layout]] = {}
    for full in full_layouts(seat.gpu.type, names, seat.held):
        kept = tuple(place for place in full if place[0] in profiles or place in seat.now)
        key = tuple(sorted(name for name, _ in kept))
        rated = (_touched(seat, kept).bit_count(), kept)
        best[key] = min(best.get(key, rated), rated)
    return [seat.now, *(layout for _, layout in best.values() if layout != seat.now)]


def _counts(layout: Layout, profiles: Mapping[str, float]) -> tuple[int, ...]:
    names = [name for name, _ in layout]
    return tuple(names.count(name) for name in profiles)


def _touched(seat: _Seat, layout: Layout) -> int:
    """The memory slices under instances that go or come."""
    sizes = {one.name: one for one in seat.gpu.type.profiles}
    bits = 0
    for name, start in set(seat.now) ^ set(layout):
        bits |= slices_of(sizes[name], start)
    return bits


def _cost(seat: _Seat, layout: Layout, terms: Terms) -> float:
    if layout == seat.now:
        return 0.0
    return terms.relayout_s * _touched(seat, layout).bit_count() / seat.gpu.type.memory_slices


def _change(seat: _Seat, after: Layout, demand: Demand, terms: Terms) -> Change:
    created = _less(after, seat.now)
    wanted = ", ".join(
        f"{name} ({demand.get(name, 0.0):g} asked for)" for name in sorted({n for n, _ in created})
    )
    held = f"; {_words(seat.held)} held, and stays" if seat.held else ""
    return Change(
        node=seat.node,
        gpu=seat.gpu.uuid,
        index=seat.gpu.index,
        before=seat.now,
        after=after,
        destroyed=_less(seat.now, after),
        created=created,
        cost_gpu_s=_cost(seat, after, terms),
        reason=f"room for {wanted}{held}" if wanted else f"room that nobody asked for is given up{held}",
    )


def _message(changes: tuple[Change, ...], before: float, after: float, terms: Terms) -> str:
    if not changes:
        return f"no layout serves more than what is there, {before:.2f} GPUs' worth in use, by more than it costs"
    cost = sum(one.cost_gpu_s for one in changes)
    gain = terms.horizon_s * (after - before)
    return (
        f"{len(changes)} GPUs laid out anew: {after:.2f} GPUs' worth in use instead of {before:.2f}, "
        f"{gain:.0f} GPU-seconds gained in {terms.horizon_s:.0f} s for {cost:.0f} lost"
    )


def _total(options: list[list[Option]], choice: tuple[int, ...], profile: int) -> int:
    return sum(some[at].counts[profile] for some, at in zip(options, choice, strict=True))


def _less(layout: Layout, other: Layout) -> Layout:
    return tuple(place for place in layout if place not in other)


def _sorted(places: set[tuple[str, int]]) -> Layout:
    return tuple(sorted(places, key=lambda place: place[1]))


def _words(layout: Layout) -> str:
    return ", ".join(f"{name} at {start}" for name, start in layout)
