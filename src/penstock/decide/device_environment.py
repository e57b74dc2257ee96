"""Which variables make a program see its devices, its part of them, and no others?

CUDA and NVIDIA's container tools name devices by UUID; MPS takes the part of memory and compute. A program that has no devices sees none, also on
a machine that has some.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from penstock.contracts.devices import WHOLE_MILLI, Gpu, Share

NO_DEVICES = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
MIB = 1 << 20


def device_environment(
    shares: Iterable[Share], gpus: Mapping[str, Gpu], mps_pipe: str = ""
) -> dict[str, str] | str:
    """The variables for one container's shares, or why it cannot start yet. `gpus` are those of its node, by UUID, `mps_pipe` is where its MPS daemon is found."""
    held = tuple(shares)
    if not held:
        return dict(NO_DEVICES)
    names: list[str] = []
    limits: list[str] = []
    percentages: list[int] = []
    sizes: list[int] = []
    for share in held:
        gpu = gpus.get(share.gpu)
        name = _name(share, gpu)
        if name is None:
            return (
                f"the MIG instance {share.profile} at {share.start} of {share.gpu} does not exist yet: make it with "
                f"`nvidia-smi mig -cgi {share.profile} -C`"
            )
        if name in names:
            continue
        memory_bytes, percentage = _part(share, gpu)
        if memory_bytes:
            limits.append(f"{len(names)}={memory_bytes // MIB}M")
            sizes.append(memory_bytes)
        if percentage:
            percentages.append(percentage)
        names.append(name)
    found = {"CUDA_VISIBLE_DEVICES": ",".join(names), "NVIDIA_VISIBLE_DEVICES": ",".join(names)}
    if limits:
        found["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = ",".join(limits)
        found["PENSTOCK_GPU_MEMORY_BYTES"] = str(min(sizes))
    if mps_pipe and any(_is_by_mps(share, gpus.get(share.gpu)) for share in held):
        found["CUDA_MPS_PIPE_DIRECTORY"] = mps_pipe
    if percentages:
        found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(min(percentages))
    return found


def _name(share: Share, gpu: Gpu | None) -> str | None:
    """The UUID by which CUDA knows the device. None for an instance of a real GPU that is not there."""
    if not share.profile:
        return share.gpu
    made = gpu and next((one for one in gpu.instances if one.start == share.start), None)
    if share.instance or made:
        return share.instance or (made.uuid if made else "")
    is_real = gpu is not None and bool(gpu.driver)
    return None if is_real else f"MIG-{share.gpu}/{share.start}/0"


def _part(share: Share, gpu: Gpu | None) -> tuple[int, int]:
    """Bytes and percent that the program may use, 0 for no limit. Time slices limit nothing, instances are limited by the device."""
    if share.profile:
        return 0, 0
    if share.replica >= 0:
        if gpu is None or not _is_by_mps(share, gpu):
            return 0, 0
        return gpu.type.memory_bytes // gpu.sharing.replicas, max(1, 100 // gpu.sharing.replicas)
    percentage = max(1, share.milli * 100 // WHOLE_MILLI) if 0 < share.milli < WHOLE_MILLI else 0
    is_part = share.milli < WHOLE_MILLI
    return (share.memory_bytes if is_part else 0), percentage


def _is_by_mps(share: Share, gpu: Gpu | None) -> bool:
    return share.replica >= 0 and gpu is not None and gpu.sharing.strategy == "mps"
