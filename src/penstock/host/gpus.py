"""The GPUs of this machine, as NVML (NVIDIA's management library) tells them. No driver means no GPUs.

What the library of types says of a product is corrected by what the device itself says: its memory, the sizes of its MIG profiles and where
they may lie.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from penstock.contracts.devices import Gpu, GpuType, MigInstance, MigProfile
from penstock.decide.gpu_class import product_label, types_named
from penstock.host.nvml import mig_devices, nvml, text

MIB = 1 << 20


def discover_gpus(types: Iterable[GpuType]) -> tuple[Gpu, ...]:
    """All devices that the driver shows, by index; one that cannot be asked (it fell off the bus) is left out."""
    library = nvml()
    if library is None:
        return ()
    known = tuple(types)
    found = []
    for index in range(library.nvmlDeviceGetCount()):
        try:
            found.append(_gpu(library, index, known))
        except library.NVMLError:
            continue
    return tuple(found)


def _gpu(library: Any, index: int, types: tuple[GpuType, ...]) -> Gpu:
    handle = library.nvmlDeviceGetHandleByIndex(index)
    kind = _type(library, handle, types)
    is_mig = _is_mig(library, handle)
    if is_mig:
        kind = replace(kind, profiles=tuple(_profile(library, handle, one) for one in kind.profiles))
    return Gpu(
        index=index,
        uuid=text(library.nvmlDeviceGetUUID(handle)),
        type=kind,
        driver=text(library.nvmlSystemGetDriverVersion()),
        bus=text(library.nvmlDeviceGetPciInfo(handle).busId).lower(),
        is_mig=is_mig,
        instances=tuple(_instances(library, handle, kind)) if is_mig else (),
    )


def _type(library: Any, handle: Any, types: tuple[GpuType, ...]) -> GpuType:
    model = text(library.nvmlDeviceGetName(handle))
    memory_bytes = int(library.nvmlDeviceGetMemoryInfo(handle).total)
    major, minor = library.nvmlDeviceGetCudaComputeCapability(handle)
    label = product_label(model)
    same = types_named(model, types)
    nearest = min(same, key=lambda one: abs(one.memory_bytes - memory_bytes), default=None)
    kind = nearest or GpuType(name=label.lower(), product=label, memory_bytes=memory_bytes)
    return replace(
        kind,
        product=label,
        model=model,
        memory_bytes=memory_bytes,
        compute_capability=f"{major}.{minor}",
    )


def _is_mig(library: Any, handle: Any) -> bool:
    try:
        current, _ = library.nvmlDeviceGetMigMode(handle)
    except library.NVMLError:
        return False
    return bool(current)


def _profile(library: Any, handle: Any, profile: MigProfile) -> MigProfile:
    """Where the device does not know the profile, or does not tell, the library of types stands."""
    try:
        info = library.nvmlDeviceGetGpuInstanceProfileInfoById(handle, profile.profile_id)
        starts = _starts(library, handle, profile.profile_id)
    except library.NVMLError:
        return profile
    return replace(
        profile,
        memory_bytes=int(info.memorySizeMB) * MIB,
        starts=starts or profile.starts,
        most=int(info.instanceCount) or profile.most,
    )


def _starts(library: Any, handle: Any, profile_id: int) -> tuple[int, ...]:
    count = ctypes.c_uint(0)
    library.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile_id, None, ctypes.byref(count))
    places = (library.c_nvmlGpuInstancePlacement_t * count.value)()
    library.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile_id, places, ctypes.byref(count))
    return tuple(sorted(int(place.start) for place in places[: count.value]))


def _instances(library: Any, handle: Any, kind: GpuType) -> Iterable[MigInstance]:
    for device, number in mig_devices(library, handle):
        try:
            info = library.nvmlGpuInstanceGetInfo(library.nvmlDeviceGetGpuInstanceById(handle, number))
        except library.NVMLError:
            continue  # it went meanwhile
        named = next((one.name for one in kind.profiles if one.profile_id == info.profileId), "")
        yield MigInstance(
            uuid=text(library.nvmlDeviceGetUUID(device)),
            profile=named or text(library.nvmlDeviceGetName(device)).rpartition(" ")[2],
            start=int(info.placement.start),
        )
