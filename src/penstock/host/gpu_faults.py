"""What goes wrong with this machine's GPUs: XID events, ECC errors, rows that could not be remapped, devices that are gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from penstock.decide.gpu_health import ECC, LOST, ROW_REMAP, XID, GpuFault
from penstock.host.nvml import nvml, text

MAX_EVENTS = 64
"""Taken in one look; the driver keeps the others for the next."""


class Watcher(Protocol):
    """Who knows of further faults of devices."""

    def look(self) -> tuple[GpuFault, ...]:
        """What is wrong now."""
        ...


class GpuFaults:
    """Hears the driver's events from its making on, and what others know. A look takes milliseconds."""

    def __init__(self, others: Sequence[Watcher] = ()) -> None:
        self._others = tuple(others)
        self._library = nvml()
        self._events: Any = None
        self._uuids: dict[int, str] = {}
        if self._library is not None:
            self._listen(self._library)

    def look(self) -> tuple[GpuFault, ...]:
        """What was reported since the last look, and what is wrong now."""
        library = self._library
        known = tuple(fault for one in self._others for fault in one.look())
        if library is None:
            return known
        return (*self._reported(library), *self._standing(library), *known)

    def _listen(self, library: Any) -> None:
        wanted = library.nvmlEventTypeXidCriticalError | library.nvmlEventTypeDoubleBitEccError
        self._events = library.nvmlEventSetCreate()
        for index in range(library.nvmlDeviceGetCount()):
            try:
                handle = library.nvmlDeviceGetHandleByIndex(index)
                self._uuids[index] = text(library.nvmlDeviceGetUUID(handle))
                library.nvmlDeviceRegisterEvents(handle, wanted, self._events)
            except library.NVMLError:
                continue  # consumer devices tell no events

    def _reported(self, library: Any) -> Iterator[GpuFault]:
        for _ in range(MAX_EVENTS):
            try:
                event = library.nvmlEventSetWait_v2(self._events, 0)
                gpu = text(library.nvmlDeviceGetUUID(event.device))
            except library.NVMLError:
                return  # nothing more has been reported
            if event.eventType == library.nvmlEventTypeXidCriticalError:
                yield GpuFault(gpu, XID, str(event.eventData))
            else:
                yield GpuFault(gpu, ECC)

    def _standing(self, library: Any) -> Iterator[GpuFault]:
        for index, uuid in self._uuids.items():
            try:
                handle = library.nvmlDeviceGetHandleByIndex(index)
                library.nvmlDeviceGetMemoryInfo(handle)
            except library.NVMLError:
                yield GpuFault(uuid, LOST)
                continue
            try:
                _, _, pending, failed = library.nvmlDeviceGetRemappedRows(handle)
            except library.NVMLError:
                continue  # before Ampere there is no remapping
            if failed:
                yield GpuFault(uuid, ROW_REMAP, "failed")
            elif pending:
                yield GpuFault(uuid, ROW_REMAP, "pending")
