from __future__ import annotations

import sys
from collections.abc import Iterator

import msgspec
import pytest

from fake_nvml import Card, FakeNvml, Part
from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, MigInstance, Share
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

    def __init__(self, *pods: Pod, gpus: tuple[Gpu, ...] = GPUS) -> None:
        self.objects = {ResourceSlice: slices_of("n", gpus), Pod: pods}

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


async def told(*pods: Pod, read=dict, gpus: tuple[Gpu, ...] = GPUS) -> str:
    return (await DeviceMetrics(Held(*pods, gpus=gpus), load_gpu_types(), read).exposition()).decode()


def by_instance(text: str, field: str) -> dict[str, tuple[str, float, str]]:
    """Profile, value and pod by number."""
    rows = [one for one in series_of(text, field) if one.labels.get("GPU_I_ID")]
    return {
        one.labels["GPU_I_ID"]: (one.labels["GPU_I_PROFILE"], one.value, one.labels["pod"]) for one in rows
    }


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


H100 = find_gpu_type("h100-80gb")
CUT = Gpu(
    index=0,
    uuid="GPU-0",
    type=H100,
    is_mig=True,
    instances=(
        MigInstance(uuid="MIG-a", profile="1g.10gb", start=0),
        MigInstance(uuid="MIG-b", profile="3g.40gb", start=4),
    ),
)


async def test_instances_of_a_real_device_are_told_apart_by_the_drivers_number(library: FakeNvml) -> None:
    parts = [Part(uuid="MIG-a", profile_id=19, start=0, number=9, used_bytes=512 << 20)]
    library.cards.append(Card(uuid="GPU-0", mig=True, parts=parts))
    holder = pod("a", Share(gpu="GPU-0", container="main", profile="1g.10gb", start=0, instance="MIG-a"))
    text = await told(holder, read=read_gpus, gpus=(CUT,))
    assert by_instance(text, "DCGM_FI_DEV_FB_USED")["9"] == ("1g.10gb", 512, "a")
    assert by_instance(text, "DCGM_FI_DEV_FB_FREE")["9"] == ("1g.10gb", 9856 - 512, "a")
    whole = next(one for one in series_of(text, "DCGM_FI_DEV_GPU_TEMP"))
    assert (whole.labels["pod"], "GPU_I_ID" in whole.labels) == ("", False)


async def test_of_a_declared_instance_a_pod_has_all_or_nobody_has() -> None:
    memory = {one.name: one.memory_bytes >> 20 for one in H100.profiles}
    holder = pod("a", Share(gpu="GPU-0", container="main", profile="1g.10gb", start=0, instance="MIG-a"))
    text = await told(holder, gpus=(CUT,))
    assert by_instance(text, "DCGM_FI_DEV_FB_USED") == {
        "0": ("1g.10gb", memory["1g.10gb"], "a"),
        "4": ("3g.40gb", 0, ""),
    }
    assert by_instance(text, "DCGM_FI_DEV_FB_FREE")["4"] == ("3g.40gb", memory["3g.40gb"], "")


async def test_an_instance_that_is_yet_to_be_made_for_a_pod_is_told_as_well() -> None:
    whole = Gpu(index=0, uuid="GPU-0", type=H100, is_mig=True)
    text = await told(pod("a", Share(gpu="GPU-0", profile="2g.20gb", start=2)), gpus=(whole,))
    assert by_instance(text, "DCGM_FI_DEV_FB_USED")["2"][0] == "2g.20gb"
