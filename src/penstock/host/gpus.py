"""The GPUs of this machine, as NVML (NVIDIA's management library) tells them. No driver means no GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct


class Gpu(Struct, frozen=True, kw_only=True):
    """One physical device."""

    index: int
    uuid: str
    product: str
    memory_bytes: int
    driver: str


def discover_gpus() -> tuple[Gpu, ...]:
    """All devices that the driver shows; none where there is no driver."""
    import pynvml  # noqa: PLC0415  loading the library on a machine without a driver would be for nothing

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


def gpu_labels(gpus: Sequence[Gpu]) -> dict[str, str]:
    """Node labels as GPU Feature Discovery names them; memory in MiB."""
    if not gpus:
        return {}
    first = gpus[0]
    return {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": str(len(gpus)),
        "nvidia.com/gpu.product": first.product.replace(" ", "-"),
        "nvidia.com/gpu.memory": str(first.memory_bytes >> 20),
        "nvidia.com/cuda.driver-version.full": first.driver,
    }


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    return Gpu(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        product=_text(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        driver=_text(nvml.nvmlSystemGetDriverVersion()),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
