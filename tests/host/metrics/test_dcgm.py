from __future__ import annotations

import sys
from collections.abc import Iterator

import msgspec
import pytest

from fake_nvml import Card, FakeNvml
from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, Share
from penstock.decide.device_slices import slices_of
from penstock.host.gpu_readings import read_gpus
from penstock.host.metrics.dcgm import DeviceMetrics
from penstock.host.nvml import nvml
from penstock.kit.exposition import series_of
from penstock.resources.core import Taint
from penstock.resources.devices import ResourceSlice
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod, PodSpec

T4 = find_gpu_type("t4")
XID = Taint(key="gpu.nvidia.com/xid", value="79", effect="NoExecute")
GPUS = (Gpu(index=0, uuid="GPU-0", type=T4), Gpu(index=1, uuid="GPU-1", type=T4, taints=(XID,)))


class Held:
    """A cache with the slices of GPUS and these pods."""

    def __init__(self, *pods: Pod) -> None:
        self.objects = {ResourceSlice: slices_of("n", GPUS), Pod: pods}

    def list(self, kind, namespace=None, *, labels="", owner=""):
        return self.objects[kind]


def pod(name: str, *shares: Share) -> Pod:
    annotation = msgspec.json.encode(shares).decode()
    return Pod(
        metadata=ObjectMeta(
            name=name, namespace="default", uid=name, annotations={DEVICES_ANNOTATION: annotation}
        ),
        spec=PodSpec(node_name="n"),
    )


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    nvml.cache_clear()
    yield fake
    nvml.cache_clear()


async def told(*pods: Pod, read=dict) -> str:
    return (await DeviceMetrics(Held(*pods), load_gpu_types(), read).exposition()).decode()


async def test_of_declared_devices_the_memory_that_pods_were_given_is_known_and_their_fault() -> None:
    text = await told(pod("a", Share(gpu="GPU-0", container="main", memory_bytes=4 << 30)))
    used = {one.labels["UUID"]: one for one in series_of(text, "DCGM_FI_DEV_FB_USED")}
    assert {uuid: one.value for uuid, one in used.items()} == {"GPU-0": 4096, "GPU-1": 0}
    labels = used["GPU-0"].labels
    assert (labels["pod"], labels["namespace"], labels["container"]) == ("a", "default", "main")
    assert (labels["modelName"], labels["Hostname"], labels["device"]) == ("Tesla T4", "n", "nvidia0")
    assert [one.value for one in series_of(text, "DCGM_FI_DEV_XID_ERRORS")] == [0, 79]
    assert "GPU_TEMP" not in text


async def test_a_device_that_two_pods_share_is_said_to_be_neithers() -> None:
    text = await told(
        pod("a", Share(gpu="GPU-0", memory_bytes=1 << 30)), pod("b", Share(gpu="GPU-0", memory_bytes=1 << 30))
    )
    (first, _) = series_of(text, "DCGM_FI_DEV_FB_USED")
    assert (first.value, first.labels["pod"]) == (2048, "")


async def test_of_real_devices_all_that_nvml_tells_is_told(library: FakeNvml) -> None:
    library.cards.append(Card(uuid="GPU-0", memory_bytes=15360 << 20, used_bytes=1024 << 20))
    text = await told(read=read_gpus)
    for field, value in {
        "FB_USED": 1024, "FB_FREE": 14336, "GPU_UTIL": 50, "MEM_COPY_UTIL": 25, "GPU_TEMP": 61, "POWER_USAGE": 350.5,
        "TOTAL_ENERGY_CONSUMPTION": 123456, "SM_CLOCK": 1980, "MEM_CLOCK": 2619, "ROW_REMAP_FAILURE": 0,
    }.items():  # fmt: skip
        first = series_of(text, f"DCGM_FI_DEV_{field}")[0]
        assert (field, first.value, first.labels["UUID"]) == (field, value, "GPU-0")


async def test_a_device_that_does_not_answer_tells_only_what_is_known_of_it(library: FakeNvml) -> None:
    library.cards.append(Card(uuid="GPU-0", gone=True))
    assert "GPU_UTIL" not in await told(read=read_gpus)
