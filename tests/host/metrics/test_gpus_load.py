"""GPUs' load by whose processes use them; NVML itself is a fake that answers as the library does."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from penstock.host.metrics.gpus import GpuLoad, Nvml, in_use
from penstock.host.nvml import nvml


class NVMLError(Exception):
    pass


@pytest.fixture(autouse=True)
def unopened() -> Iterator[None]:
    nvml.cache_clear()
    yield
    nvml.cache_clear()


def library(devices: list[tuple[int, list[int]] | None]) -> SimpleNamespace:
    def handle(index: int) -> tuple[int, list[int]]:
        if devices[index] is None:
            raise NVMLError
        return devices[index]

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: len(devices),
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=handle[0]),
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [SimpleNamespace(pid=pid) for pid in handle[1]],
    )


def test_every_device_is_read_and_a_lost_one_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library([(50, [1, 2]), None, (100, [])]))
    assert Nvml().read() == (GpuLoad(0.5, frozenset({1, 2})), GpuLoad(1.0, frozenset()))


def test_without_a_driver_there_are_no_gpus_and_nobody_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse() -> None:
        asked.append(1)
        raise NVMLError

    absent = library([])
    absent.nvmlInit = refuse
    monkeypatch.setitem(sys.modules, "pynvml", absent)
    gpus = Nvml()
    assert (gpus.read(), gpus.read(), len(asked)) == ((), (), 1)


def test_a_container_uses_the_devices_that_its_processes_are_on() -> None:
    loads = (GpuLoad(0.5, frozenset({1, 2})), GpuLoad(1.0, frozenset({3})), GpuLoad(0.25, frozenset({2})))
    assert in_use(loads, frozenset({2, 9})) == 0.75
    assert in_use(loads, frozenset({9})) == 0
    assert in_use((), frozenset({2})) is None
