"""Which devices of this node meet all that a pod's claims ask for, together?

Requests are met one after another, each by the first of its alternatives that can be had; where constraints leave no device for a later one, earlier
choices are taken back. The devices that fit best are tried first, and how much is tried is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from penstock.contracts.devices import WHOLE_MILLI, Bond, DeviceRequest, Share, Way
from penstock.decide.device_claims import devices_seen
from penstock.decide.device_fit import Asker, Option, Rooms, name_of, options, tightness
from penstock.decide.device_slices import DRIVER, start_of, text
from penstock.decide.inventory import GpuRoom, Inventory, less
from penstock.decide.mig_start import NO_DEMAND, Demand, options_left
from penstock.decide.tolerations import untolerated
from penstock.resources.claims import MAX_RESULTS, claim_key
from penstock.resources.devices import Device
from penstock.resources.pod import Pod

MAX_STEPS = 1000
"""Devices that are tried on one node for one pod."""
PER_ALTERNATIVE = 1.0
"""What a later alternative counts, in MIG placements lost: nodes that can give an earlier one are preferred."""
Values = Mapping[str, tuple[object, ...]]
"""Of each bond, the values of the devices chosen so far."""


class _Step(NamedTuple):
    option: Option
    values: Values


class _TooMuch(Exception):
    """Raised within this question only."""


def fitting(
    requests: tuple[DeviceRequest, ...], rooms: Rooms, asker: Asker, demand: Demand = NO_DEMAND
) -> tuple[Option, ...] | str:
    """As `device_fit.options`, also for claims: all choices that differ for one device, the best fit for several, or who is refused first."""
    plain = tuple(one for one in requests if not one.claim)
    if len(plain) == len(requests):
        return options(requests, rooms, asker, demand)
    found = options(plain, rooms, asker, demand)
    if isinstance(found, str):
        return found
    claims = tuple(one for one in requests if one.claim)
    search = _Search(claims, asker, demand)
    try:
        for before in sorted(found, key=tightness):
            if given := search.all_or_first(before):
                return given
    except _TooMuch:
        return f"claim {claims[0].claim}: {MAX_STEPS} choices of devices were tried, none meets all requests"
    return search.refusal(rooms)


class _Search:
    """One pod's claims on one node."""

    def __init__(self, requests: tuple[DeviceRequest, ...], asker: Asker, demand: Demand) -> None:
        self._requests = requests
        self._asker = asker
        self._demand = demand
        self._steps = 0

    def all_or_first(self, before: Option) -> tuple[Option, ...]:
        """For one device alone every choice that differs, so that placement may rate them; else the first that meets all."""
        only = self._requests[0]
        if len(self._requests) == 1 and not (only.pinned or only.bonds):
            for rank, way in enumerate(only.ways):
                if way.count == 1 and (found := [*self._differing(only, way, rank, before)]):
                    return tuple(found)
                if way.count != 1:
                    break
        first = next(self._met(0, _Step(before, {})), None)
        return () if first is None or len(first.shares) - len(before.shares) > MAX_RESULTS else (first,)

    def refusal(self, rooms: Rooms) -> str:
        """The first request that cannot be met even alone, or that they cannot be met together."""
        start = _Step(Option((), rooms), {})
        for request in self._requests:
            alone = _Search((replace(request, bonds=()),), self._asker, self._demand)
            if next(alone._met(0, start), None) is None:
                return f"Insufficient {name_of(request)}"
        bound = next((one for one in self._requests if one.bonds), None)
        if bound is None:
            return f"Insufficient {name_of(self._requests[-1])}"
        words = " and ".join(f"{'distinct' if b.is_distinct else 'same'} {b.attribute}" for b in bound.bonds)
        return f"claim {bound.claim}: no free devices meet its constraints ({words})"

    def _differing(self, request: DeviceRequest, way: Way, rank: int, before: Option) -> Iterator[Option]:
        tried = set()
        for gpu, device in self._devices(request, way, before.left):
            room = before.left[gpu]
            alike = (
                room.gpu.type.name, room.milli, room.memory_bytes, room.slices, room.gpu.instances,
                self._collides(room), device.name.partition("-mig-")[2],
            )  # fmt: skip
            if alike not in tried:
                tried.add(alike)
                if step := self._taken(request, way, rank, (gpu, device), _Step(before, {})):
                    yield step.option

    def _met(self, index: int, so_far: _Step) -> Iterator[Option]:
        if index == len(self._requests):
            yield so_far.option
            return
        request = self._requests[index]
        if request.pinned:
            shares = (*so_far.option.shares, *request.pinned)
            if {one.gpu for one in request.pinned} <= {room.gpu.uuid for room in so_far.option.left}:
                yield from self._met(index + 1, _Step(so_far.option._replace(shares=shares), so_far.values))
            return
        for rank, way in enumerate(request.ways):
            devices = [*self._devices(request, way, so_far.option.left)]
            count = way.count or len(devices)
            if count:
                for step in self._filled(request, way, rank, devices, count, so_far):
                    yield from self._met(index + 1, step)

    def _filled(
        self,
        request: DeviceRequest,
        way: Way,
        rank: int,
        devices: list[tuple[int, Device]],
        count: int,
        so_far: _Step,
    ) -> Iterator[_Step]:
        """So many of these devices, in any order but each choice once."""
        if not count:
            yield so_far
            return
        for place in range(len(devices) - count + 1):
            step = self._taken(request, way, rank, devices[place], so_far)
            if step is not None:
                yield from self._filled(request, way, rank, devices[place + 1 :], count - 1, step)
            elif not way.count:
                return  # all are wanted, and one is not to be had

    def _devices(self, request: DeviceRequest, way: Way, rooms: Rooms) -> Iterator[tuple[int, Device]]:
        """What meets the conditions, with the place of its GPU; the best fit first: no sibling on it, small, least in the way, on a full GPU."""
        found = []
        for place, room in enumerate(rooms):
            if request.types and room.gpu.type.name not in request.types:
                continue
            for one in devices_seen(way.conditions, room.gpu):
                if not one.why_not:
                    lost = self._lost(room, one.device)
                    order = (
                        self._collides(room),
                        _width(one.device),
                        lost,
                        room.free_milli,
                        -start_of(one.device.name),
                    )
                    found.append((order, place, one.device))
        return iter([(place, device) for _, place, device in sorted(found, key=lambda one: one[:2])])

    def _taken(
        self, request: DeviceRequest, way: Way, rank: int, chosen: tuple[int, Device], so_far: _Step
    ) -> _Step | None:
        """With this device too, None where it cannot be had or constraints forbid it."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise _TooMuch
        (place, device), before = chosen, so_far.option
        room = before.left[place]
        share = self._share(way, device, room, before)
        values = _bound(request.bonds, way, device, so_far.values)
        if share is None or values is None:
            return None
        named = f"{request.request}/{way.name}" if way.name else request.request
        share = replace(share, claim=request.claim, request=named, device=device.name)
        lost = before.lost + self._lost(room, device) + rank * PER_ALTERNATIVE
        collides = before.collides or self._collides(room)
        left = before.left
        if not way.is_admin:
            left = (*left[:place], less(room, (share,), self._asker.owner), *left[place + 1 :])
        return _Step(Option((*before.shares, share), left, collides, lost), values)

    def _share(self, way: Way, device: Device, room: GpuRoom, before: Option) -> Share | None:
        gpu = room.gpu
        if gpu.taints and untolerated(gpu.taints, (*self._asker.tolerations, *way.tolerations)):
            return None
        if way.is_admin:
            return Share(gpu=gpu.uuid, is_admin=True)
        if text(device, "profile"):
            return _instance(device, room)
        if gpu.is_mig or gpu.sharing.strategy or any(one.gpu == gpu.uuid for one in before.shares):
            return None
        if way.memory_bytes:
            has_room = way.memory_bytes <= room.memory_bytes
            return Share(gpu=gpu.uuid, memory_bytes=way.memory_bytes) if has_room else None
        return (
            Share(gpu=gpu.uuid, milli=WHOLE_MILLI, memory_bytes=gpu.type.memory_bytes)
            if room.is_whole
            else None
        )

    def _lost(self, room: GpuRoom, device: Device) -> float:
        """The MIG placements that a new instance takes from others."""
        start, kind = start_of(device.name), room.gpu.type
        profile = next((one for one in kind.profiles if one.name == text(device, "profile")), None)
        if profile is None or text(device, "uuid"):
            return 0.0
        after = room.slices & ~(((1 << profile.memory_slices) - 1) << start)
        compute = room.compute_slices
        before = options_left(kind, room.slices, compute, self._demand)
        return before - options_left(kind, after, compute - profile.compute_slices, self._demand)

    def _collides(self, room: GpuRoom) -> bool:
        return bool(self._asker.owner) and self._asker.owner in room.holders


def _instance(device: Device, room: GpuRoom) -> Share | None:
    start, kind = start_of(device.name), room.gpu.type
    profile = next(one for one in kind.profiles if one.name == text(device, "profile"))
    mask = ((1 << profile.memory_slices) - 1) << start
    if room.slices & mask != mask or profile.compute_slices > room.compute_slices:
        return None
    return Share(
        gpu=room.gpu.uuid,
        memory_bytes=profile.memory_bytes,
        profile=profile.name,
        start=start,
        instance=text(device, "uuid"),
    )


def _width(device: Device) -> int:
    """Memory slices of an instance, 0 for a whole GPU."""
    return int(device.name.rpartition("-")[2]) if "-mig-" in device.name else 0


def _bound(bonds: tuple[Bond, ...], way: Way, device: Device, values: Values) -> Values | None:
    """The values with this device's, None where one of them may not be. A device without the attribute meets no constraint on it."""
    found = dict(values)
    for bond in bonds:
        if bond.ways and way.name not in bond.ways:
            continue
        value, others = attribute(device, bond.attribute), found.get(bond.name, ())
        if value is None or (others and (value in others) is bond.is_distinct):
            return None
        found[bond.name] = (*others, value)
    return found


def attribute(device: Device, name: str) -> object | None:
    """An attribute by its full name; one without a domain is the driver's."""
    domain, _, own = name.rpartition("/")
    value = device.attributes.get(name) or (device.attributes.get(own) if domain == DRIVER else None)
    if value is None:
        return None
    return next(
        (one for one in (value.string, value.int_, value.bool_, value.version) if one is not None), None
    )


def pinned(pod: Pod, requests: tuple[DeviceRequest, ...], inventory: Inventory) -> tuple[DeviceRequest, ...]:
    """With the devices that the pod's claims were given already, because another pod uses them too."""
    if not any(one.claim for one in requests):
        return requests
    wanted = {claim_key(pod, one.claim) for one in requests if one.claim}
    given: dict[tuple[str, str], dict[tuple[str, str], Share]] = {}
    for room in inventory.rooms.values():
        for held in room.held:
            for share in held.shares:
                if share.claim and (key := claim_key(held.pod, share.claim)) in wanted:
                    given.setdefault(key, {})[share.request, share.device] = share
    return tuple(
        replace(one, pinned=_pins(one, given.get(claim_key(pod, one.claim), {}).values()))
        if one.claim
        else one
        for one in requests
    )


def _pins(request: DeviceRequest, given: Iterable[Share]) -> tuple[Share, ...]:
    own = (one for one in given if one.request.partition("/")[0] == request.request)
    return tuple(replace(one, claim=request.claim) for one in own)
