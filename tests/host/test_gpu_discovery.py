"""GPUs as NVML tells them; NVML itself is a fake that answers as the library does."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from fake_nvml import Card, FakeNvml, NVMLError, Part
from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import Gpu, MigInstance
from penstock.decide.gpu_health import ECC, LOST, ROW_REMAP, XID, GpuFault
from penstock.host.gpu_faults import GpuFaults
from penstock.host.gpus import discover_gpus
from penstock.host.nvml import nvml

TYPES = load_gpu_types()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    nvml.cache_clear()
    yield fake
    nvml.cache_clear()


def test_without_a_driver_there_are_no_gpus_and_nobody_asks_again(
    library: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse() -> None:
        asked.append(1)
        raise NVMLError("no driver")

    monkeypatch.setattr(library, "nvmlInit", refuse)
    assert (discover_gpus(TYPES), discover_gpus(TYPES), GpuFaults().look()) == ((), (), ())
    assert len(asked) == 1


def test_a_device_is_known_by_its_product(library: FakeNvml) -> None:
    library.cards.append(
        Card(uuid="GPU-a", name="NVIDIA A100 80GB PCIe", memory_bytes=80 << 30, capability=(8, 0))
    )
    (found,) = discover_gpus(TYPES)
    assert isinstance(found, Gpu)
    assert (found.uuid, found.type.name, found.type.product) == (
        "GPU-a",
        "a100-80gb",
        "NVIDIA-A100-80GB-PCIe",
    )
    assert (found.driver, found.bus, found.is_mig) == ("565.57.01", "00000000:0a:00.0", False)


def test_a_product_that_nobody_knows_is_used_for_what_it_says_of_itself(library: FakeNvml) -> None:
    library.cards.append(Card(name="NVIDIA X9", memory_bytes=1 << 40, capability=(12, 1)))
    (found,) = discover_gpus(TYPES)
    assert (found.type.name, found.type.memory_bytes, found.type.compute_capability) == (
        "nvidia-x9",
        1 << 40,
        "12.1",
    )


def test_a_device_that_cannot_be_asked_is_left_out(library: FakeNvml) -> None:
    library.cards += [Card(uuid="GPU-a"), Card(uuid="GPU-b", gone=True), Card(uuid="GPU-c")]
    assert [(gpu.index, gpu.uuid) for gpu in discover_gpus(TYPES)] == [(0, "GPU-a"), (2, "GPU-c")]


def test_instances_are_found_where_they_lie(library: FakeNvml) -> None:
    parts = [Part("MIG-1", profile_id=19, start=6, number=9), Part("MIG-2", profile_id=9, start=0, number=2)]
    library.cards.append(Card(mig=True, parts=parts))
    (found,) = discover_gpus(TYPES)
    assert found.is_mig
    assert found.instances == (
        MigInstance(uuid="MIG-1", profile="1g.10gb", start=6),
        MigInstance(uuid="MIG-2", profile="3g.40gb", start=0),
    )


def test_what_the_device_says_of_its_profiles_counts_more_than_the_library_of_types(
    library: FakeNvml,
) -> None:
    library.cards.append(Card(mig=True, profiles={19: (9999, (5, 6))}))
    (found,) = discover_gpus(TYPES)
    profiles = {one.name: one for one in found.type.profiles}
    assert (profiles["1g.10gb"].memory_bytes >> 20, profiles["1g.10gb"].starts, profiles["1g.10gb"].most) == (
        9999,
        (5, 6),
        2,
    )
    assert profiles["3g.40gb"] in find_gpu_type("h100-80gb").profiles


def test_faults_are_told_once_if_reported_and_as_long_as_they_stand_otherwise(library: FakeNvml) -> None:
    a, b, c = Card(uuid="GPU-a"), Card(uuid="GPU-b", rows=None), Card(uuid="GPU-c", rows=(1, 0))
    library.cards += [a, b, c]
    faults = GpuFaults()
    library.events += [(a, 8, 79), (b, 2, 0)]
    pending = GpuFault("GPU-c", ROW_REMAP, "pending")
    assert set(faults.look()) == {GpuFault("GPU-a", XID, "79"), GpuFault("GPU-b", ECC), pending}
    assert faults.look() == (pending,)
    b.gone, c.rows = True, (1, 1)
    assert faults.look() == (GpuFault("GPU-b", LOST), GpuFault("GPU-c", ROW_REMAP, "failed"))
