"""A stand-in for `pynvml`: it has its own devices and answers as the library does."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    pass


class Placement(ctypes.Structure):
    _fields_ = [("start", ctypes.c_uint), ("size", ctypes.c_uint)]


@dataclass
class Part:
    uuid: str
    profile_id: int
    start: int
    number: int = 1
    name: str = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    memory_bytes: int = 9856 << 20
    used_bytes: int = 0
    gone: bool = False


@dataclass
class Card:
    """One GPU. `profiles`: by id, memory in MiB and starts. `rows`: pending, failed. `gone`: it fell off the bus."""

    uuid: str = "GPU-0"
    name: str = "NVIDIA H100 80GB HBM3"
    memory_bytes: int = 81559 << 20
    capability: tuple[int, int] = (9, 0)
    mig: bool | None = None
    parts: list[Part] = field(default_factory=list)
    profiles: dict[int, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    rows: tuple[int, int] | None = (0, 0)
    gone: bool = False
    used_bytes: int = 0
    processes: tuple[tuple[int, int], ...] = ()


class FakeNvml(SimpleNamespace):
    nvmlEventTypeXidCriticalError = 8
    nvmlEventTypeDoubleBitEccError = 2
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVMLError = NVMLError
    c_nvmlGpuInstancePlacement_t = Placement

    def __init__(self, *cards: Card) -> None:
        super().__init__()
        self.cards = list(cards)
        self.events: list[tuple[Card, int, int]] = []
        self.opened = 0

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "565.57.01"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        if self.cards[index].gone:
            raise NVMLError("lost")
        return self.cards[index]

    def nvmlDeviceGetUUID(self, device: Card | Part) -> bytes:
        return device.uuid.encode()

    def nvmlDeviceGetName(self, device: Card | Part) -> str:
        return device.name

    def nvmlDeviceGetMemoryInfo(self, card: Card | Part) -> SimpleNamespace:
        if card.gone:
            raise NVMLError("lost")
        return SimpleNamespace(
            total=card.memory_bytes, used=card.used_bytes, free=card.memory_bytes - card.used_bytes
        )

    def nvmlDeviceGetCudaComputeCapability(self, card: Card) -> tuple[int, int]:
        return card.capability

    def nvmlDeviceGetPciInfo(self, card: Card) -> SimpleNamespace:
        return SimpleNamespace(busId=b"00000000:0A:00.0")

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        if card.mig is None:
            raise NVMLError("not supported")
        return [int(card.mig), int(card.mig)]

    def nvmlDeviceGetGpuInstanceProfileInfoById(self, card: Card, profile_id: int) -> SimpleNamespace:
        if profile_id not in card.profiles:
            raise NVMLError("not supported")
        memory_mib, starts = card.profiles[profile_id]
        return SimpleNamespace(memorySizeMB=memory_mib, instanceCount=len(starts))

    def nvmlDeviceGetGpuInstancePossiblePlacements(
        self, card: Card, profile_id: int, places: Any, count: Any
    ) -> int:
        _, starts = card.profiles[profile_id]
        count._obj.value = len(starts)
        for i, start in enumerate(starts if places is not None else ()):
            places[i].start = start
        return 0

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Part:
        if index >= len(card.parts):
            raise NVMLError("not found")
        return card.parts[index]

    def nvmlDeviceGetGpuInstanceId(self, part: Part) -> int:
        return part.number

    def nvmlDeviceGetGpuInstanceById(self, card: Card, number: int) -> Part:
        return next(part for part in card.parts if part.number == number)

    def nvmlGpuInstanceGetInfo(self, part: Part) -> SimpleNamespace:
        return SimpleNamespace(profileId=part.profile_id, placement=SimpleNamespace(start=part.start))

    def nvmlEventSetCreate(self) -> object:
        return object()

    def nvmlDeviceRegisterEvents(self, card: Card, wanted: int, events: object) -> None:
        return None

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> SimpleNamespace:
        if not self.events:
            raise NVMLError("timeout")
        card, kind, data = self.events.pop(0)
        return SimpleNamespace(device=card, eventType=kind, eventData=data)

    def nvmlDeviceGetRemappedRows(self, card: Card) -> tuple[int, int, int, int]:
        if card.rows is None:
            raise NVMLError("not supported")
        return (0, 0, *card.rows)

    def nvmlDeviceGetUtilizationRates(self, card: Card) -> SimpleNamespace:
        return SimpleNamespace(gpu=50, memory=25)

    def nvmlDeviceGetTemperature(self, card: Card, sensor: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, card: Card) -> int:
        return 350_500

    def nvmlDeviceGetTotalEnergyConsumption(self, card: Card) -> int:
        return 123_456

    def nvmlDeviceGetClockInfo(self, card: Card, clock: int) -> int:
        return 1980 if clock == self.NVML_CLOCK_SM else 2619

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in card.processes]
