"""Which devices of this node could a pod get?

Whole GPUs that nobody touches, a part of one by memory or compute, a replica of a shared one, a MIG instance that exists or one that is made:
each request takes counters from `GpuRoom`s. A pod that asks for one part has as many options as there are different GPUs; placement rates them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from penstock.contracts.devices import GPU_RESOURCE, WHOLE_MILLI, DeviceRequest, MigProfile, Share
from penstock.decide.inventory import GpuRoom, NodeRoom, less
from penstock.decide.mig_start import NO_DEMAND, Demand, best_start
from penstock.decide.tolerations import untolerated
from penstock.resources.pod import Toleration

Rooms = tuple[GpuRoom, ...]
PER_FREE_SLICE = 0.2
"""What a free compute slice of the GPU adds to the options that a start there costs. The last place of a nearly full GPU would else be spared by
opening an empty one, which few small instances make useless for large ones."""


class Option(NamedTuple):
    """The shares, what they leave of the node's GPUs, whether a pod of the same owner is on one of them, MIG options lost."""

    shares: tuple[Share, ...]
    left: Rooms
    collides: bool = False
    lost: float = 0.0


class Asker(NamedTuple):
    """Who asks: the owner whose pods keep apart, and which taints of GPUs do not matter to it."""

    owner: str = ""
    tolerations: tuple[Toleration, ...] = ()


def options(
    requests: tuple[DeviceRequest, ...], rooms: Rooms, asker: Asker, demand: Demand = NO_DEMAND
) -> tuple[Option, ...] | str:
    """All that differ, for a pod that asks for one device; the best fit for one that asks for several. Or the first request that is refused."""
    found: tuple[Option, ...] = (Option((), rooms),)
    for request in requests:
        for _ in range(request.count):
            found = tuple(_one(request, found[0], asker, demand))
            if not found:
                return f"Insufficient {name_of(request)}"
            if request.count > 1 or len(requests) > 1:
                found = (min(found, key=tightness),)
    return found


def nearness(request: DeviceRequest, room: NodeRoom) -> float:
    """How much of what is asked this node's GPUs have, from 0 to 1."""
    if request.profile:
        return _free_slices(request, room) / 100
    if request.memory_bytes:
        return _free_bytes(request, room) / request.memory_bytes
    return 0.0 if request.is_shared else _untouched(request, room) / max(1, request.count)


def lacking(request: DeviceRequest, room: NodeRoom) -> str:
    """What this node's GPUs have at most of what is asked, in words."""
    if request.profile:
        free = _free_slices(request, room)
        return f"has at most {free} free memory slices on a GPU, and none where {request.profile} may start"
    if request.memory_bytes:
        most, asked = format_bytes(_free_bytes(request, room)), format_bytes(request.memory_bytes)
        return f"has at most {most} of {asked} free on a GPU"
    if request.is_shared:
        return f"has no replica of {request.resource} left"
    return f"has {_untouched(request, room)} of {request.count} GPUs that nobody holds"


def _free_slices(request: DeviceRequest, room: NodeRoom) -> int:
    return max([gpu.slices.bit_count() for gpu in _able(request, room) if gpu.gpu.is_mig], default=0)


def _free_bytes(request: DeviceRequest, room: NodeRoom) -> int:
    return max([gpu.memory_bytes for gpu in _plain(request, room)], default=0)


def _untouched(request: DeviceRequest, room: NodeRoom) -> int:
    return sum([gpu.is_whole for gpu in _plain(request, room)])


def _plain(request: DeviceRequest, room: NodeRoom) -> Rooms:
    able = _able(request, room)
    if room.kind:
        return able
    return tuple(one for one in able if not one.gpu.is_mig and not one.gpu.sharing.strategy)


def _able(request: DeviceRequest, room: NodeRoom) -> Rooms:
    """Those of the right type."""
    if not request.types:
        return room.gpus
    if room.kind:
        return room.gpus if room.kind in request.types else ()
    return tuple(one for one in room.gpus if one.gpu.type.name in request.types)


def format_bytes(size: int) -> str:
    """In GiB, with one decimal."""
    return f"{size / (1 << 30):.1f}Gi"


def name_of(request: DeviceRequest) -> str:
    """What a request is called in messages."""
    kinds = f" of {' or '.join(sorted(request.types))}" if request.types else ""
    if request.claim:
        return f"devices for claim {request.claim}, request {request.request}"
    if request.resource and not request.memory_bytes:
        return request.resource + kinds
    return "GPU memory" + kinds


def _one(request: DeviceRequest, so_far: Option, asker: Asker, demand: Demand) -> Iterator[Option]:
    """One device more, from each GPU that is not like one tried before."""
    tried = set()
    for place, room in enumerate(so_far.left):
        if request.types and room.gpu.type.name not in request.types:
            continue
        if room.gpu.taints and untolerated(room.gpu.taints, asker.tolerations):
            continue
        collides = asker.owner in room.holders
        alike = (
            room.gpu.type.name, room.milli, room.memory_bytes, room.slices, room.replicas, room.gpu.instances, collides,
        )  # fmt: skip
        mine = any(share.gpu == room.gpu.uuid for share in so_far.shares)
        if alike in tried or (mine and not request.profile):
            continue
        tried.add(alike)
        taken = _share(request, room, demand)
        if taken is not None:
            share, lost = taken
            left = (*so_far.left[:place], less(room, (share,), asker.owner), *so_far.left[place + 1 :])
            yield Option((*so_far.shares, share), left, so_far.collides or collides, so_far.lost + lost)


def _share(request: DeviceRequest, room: GpuRoom, demand: Demand) -> tuple[Share, float] | None:
    gpu = room.gpu
    if request.profile:
        return _instance(request, room, demand) if gpu.is_mig else None
    if gpu.is_mig:
        return _any_instance(request, room) if gpu.mig_strategy == "single" else None
    if gpu.sharing.strategy:
        return _replica(request, room)
    if request.is_shared:
        return None
    if request.milli >= WHOLE_MILLI:
        if not room.is_whole:
            return None
        return Share(
            gpu=gpu.uuid, container=request.container, milli=WHOLE_MILLI, memory_bytes=gpu.type.memory_bytes
        ), 0.0
    memory = request.memory_bytes or gpu.type.memory_bytes * request.milli // WHOLE_MILLI
    if request.milli > room.milli or memory > room.memory_bytes:
        return None
    return Share(gpu=gpu.uuid, container=request.container, milli=request.milli, memory_bytes=memory), 0.0


def _replica(request: DeviceRequest, room: GpuRoom) -> tuple[Share, float] | None:
    sharing = room.gpu.sharing
    if request.resource != sharing.resource or request.memory_bytes or not room.replicas:
        return None
    number = (room.replicas & -room.replicas).bit_length() - 1
    if sharing.strategy != "mps":
        return Share(gpu=room.gpu.uuid, container=request.container, replica=number), 0.0
    part = Share(
        gpu=room.gpu.uuid,
        container=request.container,
        milli=WHOLE_MILLI // sharing.replicas,
        memory_bytes=room.gpu.type.memory_bytes // sharing.replicas,
        replica=number,
    )
    return part, 0.0


def _instance(request: DeviceRequest, room: GpuRoom, demand: Demand) -> tuple[Share, float] | None:
    """An instance that exists and is free costs nothing; otherwise one is made where it is least in the way."""
    profile = next((one for one in room.gpu.type.profiles if one.name == request.profile), None)
    if profile is None:
        return None
    mask = (1 << profile.memory_slices) - 1
    for instance in room.gpu.instances:
        if instance.profile == profile.name and (room.slices >> instance.start) & mask == mask:
            return _mig_share(request, room, profile, instance.start, instance.uuid), 0.0
    found = best_start(room, profile, demand)
    if found is None:
        return None
    return _mig_share(request, room, profile, found[1], ""), found[0] + PER_FREE_SLICE * room.compute_slices


def _any_instance(request: DeviceRequest, room: GpuRoom) -> tuple[Share, float] | None:
    """Where instances are offered as whole GPUs: the first that is free."""
    if request.resource != GPU_RESOURCE or request.memory_bytes:
        return None
    for instance in room.gpu.instances:
        profile = next((one for one in room.gpu.type.profiles if one.name == instance.profile), None)
        mask = ((1 << profile.memory_slices) - 1) << instance.start if profile else 0
        if profile is not None and room.slices & mask == mask:
            return _mig_share(request, room, profile, instance.start, instance.uuid), 0.0
    return None


def _mig_share(request: DeviceRequest, room: GpuRoom, profile: MigProfile, start: int, uuid: str) -> Share:
    return Share(
        gpu=room.gpu.uuid,
        container=request.container,
        memory_bytes=profile.memory_bytes,
        profile=profile.name,
        start=start,
        instance=uuid,
    )


def tightness(option: Option) -> tuple[bool, float, int, int]:
    """Best fit: no sibling on it, least lost, then the GPU that is fullest after it."""
    return (
        option.collides,
        option.lost,
        _free(option.left),
        sum(room.replicas.bit_count() for room in option.left),
    )


def _free(rooms: Iterable[GpuRoom]) -> int:
    """Squares: two half empty GPUs are less use than one whole."""
    return -sum(room.free_milli**2 for room in rooms)
