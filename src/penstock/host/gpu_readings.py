"""How this machine's GPUs are doing, as NVML tells it, under the names of NVIDIA's DCGM exporter (without their prefix `DCGM_FI_DEV_`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from penstock.host.nvml import mig_devices, nvml, text

MIB = 1 << 20
INSTANCE_ID = "GPU_I_ID"
"""Among the readings of a MIG instance: the driver's number for it, which is the exporter's label of that name."""
Readings = Mapping[str, float]


def read_gpus() -> dict[str, Readings]:
    """By UUID, MIG instances too. What a device does not tell is left out; one that does not answer at all is not there. Blocks for milliseconds."""
    library = nvml()
    if library is None:
        return {}
    found: dict[str, Readings] = {}
    for index in range(library.nvmlDeviceGetCount()):
        try:
            handle = library.nvmlDeviceGetHandleByIndex(index)
            uuid = text(library.nvmlDeviceGetUUID(handle))
        except library.NVMLError:
            continue
        found[uuid] = _readings(library, handle)
        found.update(_instances(library, handle))
    return found


def _instances(library: Any, handle: Any) -> Iterator[tuple[str, Readings]]:
    """Their memory: the driver tells nothing else of a part of a device."""
    try:
        devices = list(mig_devices(library, handle))
    except library.NVMLError:
        return  # this product has none
    for device, number in devices:
        try:
            uuid, memory = text(library.nvmlDeviceGetUUID(device)), _memory(library, device)
        except library.NVMLError:
            continue  # it went meanwhile
        yield uuid, {INSTANCE_ID: float(number), **memory}


def _readings(library: Any, handle: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for group in (_memory, _clocks, _use, _coders, _heat, _power, _energy, _rows, _ecc, _replays):
        try:
            found |= {name: float(value) for name, value in group(library, handle).items()}
        except (library.NVMLError, AttributeError):
            continue  # this product, or this version of the library, does not tell
    return found


def _memory(library: Any, handle: Any) -> Readings:
    """A device's reserved part is neither used nor free; only the library's second version tells it."""
    try:
        memory = library.nvmlDeviceGetMemoryInfo(handle, version=library.nvmlMemory_v2)
        reserved = memory.reserved
    except (library.NVMLError, AttributeError, TypeError):
        memory, reserved = library.nvmlDeviceGetMemoryInfo(handle), None
    found = {"FB_USED": memory.used / MIB, "FB_FREE": memory.free / MIB}
    return found if reserved is None else found | {"FB_RESERVED": reserved / MIB}


def _clocks(library: Any, handle: Any) -> Readings:
    clock: Callable[[Any, int], int] = library.nvmlDeviceGetClockInfo
    return {
        "SM_CLOCK": clock(handle, library.NVML_CLOCK_SM),
        "MEM_CLOCK": clock(handle, library.NVML_CLOCK_MEM),
    }


def _use(library: Any, handle: Any) -> Readings:
    rates = library.nvmlDeviceGetUtilizationRates(handle)
    return {"GPU_UTIL": rates.gpu, "MEM_COPY_UTIL": rates.memory}


def _coders(library: Any, handle: Any) -> Readings:
    return {
        "ENC_UTIL": library.nvmlDeviceGetEncoderUtilization(handle)[0],
        "DEC_UTIL": library.nvmlDeviceGetDecoderUtilization(handle)[0],
    }


def _heat(library: Any, handle: Any) -> Readings:
    return {"GPU_TEMP": library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU)}


def _power(library: Any, handle: Any) -> Readings:
    return {"POWER_USAGE": library.nvmlDeviceGetPowerUsage(handle) / 1000}


def _energy(library: Any, handle: Any) -> Readings:
    return {"TOTAL_ENERGY_CONSUMPTION": library.nvmlDeviceGetTotalEnergyConsumption(handle)}


def _rows(library: Any, handle: Any) -> Readings:
    correctable, uncorrectable, pending, failed = library.nvmlDeviceGetRemappedRows(handle)
    return {
        "CORRECTABLE_REMAPPED_ROWS": correctable,
        "UNCORRECTABLE_REMAPPED_ROWS": uncorrectable,
        "ROW_REMAP_PENDING": pending,
        "ROW_REMAP_FAILURE": failed,
    }


def _ecc(library: Any, handle: Any) -> Readings:
    since_boot = library.NVML_VOLATILE_ECC
    count = library.nvmlDeviceGetTotalEccErrors
    return {
        "ECC_SBE_VOL_TOTAL": count(handle, library.NVML_MEMORY_ERROR_TYPE_CORRECTED, since_boot),
        "ECC_DBE_VOL_TOTAL": count(handle, library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, since_boot),
    }


def _replays(library: Any, handle: Any) -> Readings:
    return {"PCIE_REPLAY_COUNTER": library.nvmlDeviceGetPcieReplayCounter(handle)}
