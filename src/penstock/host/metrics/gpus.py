"""How busy each GPU is, and with whose processes, as NVML tells."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from penstock.host.nvml import nvml


class GpuLoad(NamedTuple):
    """One device: `busy` from 0 to 1 over NVML's own last sample, and the processes that hold memory on it."""

    busy: float
    pids: frozenset[int]


class GpuReader(Protocol):
    """Looks at all devices of the machine; blocks for milliseconds."""

    def read(self) -> tuple[GpuLoad, ...]:
        """Now; () on a machine without GPUs."""
        ...


class Nvml:
    """NVIDIA's management library. A machine without a driver has no GPUs."""

    def read(self) -> tuple[GpuLoad, ...]:
        """See `GpuReader`. A device that cannot be asked (it fell off the bus) is left out."""
        library = nvml()
        if library is None:
            return ()
        loads = []
        for index in range(library.nvmlDeviceGetCount()):
            try:
                handle = library.nvmlDeviceGetHandleByIndex(index)
                busy = library.nvmlDeviceGetUtilizationRates(handle).gpu / 100
                running = library.nvmlDeviceGetComputeRunningProcesses(handle)
            except library.NVMLError:
                continue
            loads.append(GpuLoad(busy, frozenset(process.pid for process in running)))
        return tuple(loads)


def in_use(loads: tuple[GpuLoad, ...], pids: frozenset[int]) -> float | None:
    """How many devices' worth of work is done where these processes are; None on a machine without GPUs.

    A device that several containers share counts as busy for each of them: NVML does not part its time.
    """
    if not loads:
        return None
    return sum(load.busy for load in loads if load.pids & pids)
