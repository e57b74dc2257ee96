"""How busy each GPU is, and with whose processes, as NVML tells."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


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
    """NVIDIA's management library, opened at the first look. A machine without a driver has no GPUs."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._absent = False

    def read(self) -> tuple[GpuLoad, ...]:
        """See `GpuReader`. A device that cannot be asked (it fell off the bus) is left out."""
        nvml = self._opened()
        if nvml is None:
            return ()
        loads = []
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
                running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            except nvml.NVMLError:
                continue
            loads.append(GpuLoad(busy, frozenset(process.pid for process in running)))
        return tuple(loads)

    def _opened(self) -> Any:
        if self._nvml is None and not self._absent:
            import pynvml  # noqa: PLC0415  loading the library on a machine without a driver would be for nothing

            try:
                pynvml.nvmlInit()
                self._nvml = pynvml
            except pynvml.NVMLError:
                self._absent = True
        return self._nvml


def in_use(loads: tuple[GpuLoad, ...], pids: frozenset[int]) -> float | None:
    """How many devices' worth of work is done where these processes are; None on a machine without GPUs.

    A device that several containers share counts as busy for each of them: NVML does not part its time.
    """
    if not loads:
        return None
    return sum(load.busy for load in loads if load.pids & pids)
