from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import Gpu, GpuType, MigInstance, Sharing
from penstock.decide.device_slices import DRIVER, gpus_of, slices_of
from penstock.resources.admission import admit
from penstock.resources.core import Taint
from penstock.resources.devices import Device, DeviceAttribute, ResourcePool, ResourceSlice, ResourceSliceSpec

TYPES = load_gpu_types()


@st.composite
def gpus(draw: st.DrawFn) -> tuple[Gpu, ...]:
    return tuple(draw(gpu(index)) for index in range(draw(st.integers(0, 9))))


@st.composite
def gpu(draw: st.DrawFn, index: int) -> Gpu:
    kind: GpuType = draw(st.sampled_from(TYPES))
    is_mig = bool(kind.profiles) and draw(st.booleans())
    profile = kind.profiles[0] if is_mig else None
    starts = draw(st.lists(st.sampled_from(profile.starts), unique=True)) if profile else []
    shared = Sharing(strategy="mps", replicas=4, resource="nvidia.com/gpu.shared", refuses_many=True)
    return Gpu(
        index=index,
        uuid=f"GPU-{index}",
        type=kind,
        driver="565.57.1",
        bus=f"0000:{index:02x}:00.0",
        is_mig=is_mig,
        mig_strategy=draw(st.sampled_from(("single", "mixed"))) if is_mig else "mixed",
        instances=tuple(
            MigInstance(uuid=f"MIG-{index}-{start}", profile=profile.name, start=start)
            for start in starts
            if profile is not None
        ),
        sharing=Sharing() if is_mig else draw(st.sampled_from((Sharing(), shared))),
        taints=draw(
            st.sampled_from(((), (Taint(key="gpu.nvidia.com/xid", value="79", effect="NoExecute"),)))
        ),
    )


@given(gpus())
def test_slices_say_all_that_there_is_to_know_of_gpus(found: tuple[Gpu, ...]) -> None:
    assert gpus_of(slices_of("a", found), TYPES).get("a", ()) == found


@given(gpus())
def test_slices_keep_kubernetes_limits(found: tuple[Gpu, ...]) -> None:
    slices = slices_of("a", found)
    for one in slices:
        assert len(one.spec.devices) <= 64
        assert len(one.spec.shared_counters) <= 8
        assert not (one.spec.devices and one.spec.shared_counters)
        assert one.spec.pool.resource_slice_count == len(slices)
        for device in one.spec.devices:
            assert len(device.attributes) + len(device.capacity) <= 32
            assert all(len(name.rpartition("/")[2]) <= 32 for name in device.attributes)


def test_devices_are_named_as_the_drivers_own() -> None:
    one = Gpu(index=3, uuid="GPU-3", type=find_gpu_type("h100-80gb"), is_mig=True)
    devices = [device for part in slices_of("a", [one]) for device in part.spec.devices]
    assert len(devices) == 1 + 7 + 7 + 4 + 3 + 2 + 1 + 1
    assert devices[0].name == "gpu-3"
    placed = next(device for device in devices if device.name == "gpu-3-mig-9-4-4")
    assert placed.attributes["profile"].string == "3g.40gb"
    assert placed.attributes["parentUUID"].string == "GPU-3"
    assert set(placed.consumes_counters[0].counters) == {
        "memory",
        *(f"memory-slice-{i}" for i in (4, 5, 6, 7)),
    }


def test_parts_of_a_gpu_never_draw_more_than_there_is() -> None:
    one = Gpu(index=0, uuid="GPU-0", type=find_gpu_type("a100-80gb"), is_mig=True)
    counters, devices = slices_of("a", [one])
    available = set(counters.spec.shared_counters[0].counters)
    for device in devices.spec.devices:
        assert set(device.consumes_counters[0].counters) <= available


def test_slices_that_the_driver_wrote_itself_are_read_by_product() -> None:
    device = Device(
        name="gpu-0",
        attributes={
            "type": DeviceAttribute(string="gpu"),
            "uuid": DeviceAttribute(string="GPU-x"),
            "productName": DeviceAttribute(string="NVIDIA A100 80GB PCIe"),
        },
    )
    spec = ResourceSliceSpec(
        driver=DRIVER, pool=ResourcePool(name="a", resource_slice_count=1), node_name="a", devices=(device,)
    )
    (found,) = gpus_of([ResourceSlice(spec=spec)], TYPES)["a"]
    assert found.type.name == "a100-80gb"
    assert found.type.product == "NVIDIA-A100-80GB-PCIe"


def test_a_product_that_nobody_knows_is_a_type_of_its_own() -> None:
    odd = replace(find_gpu_type("t4"), name="nvidia-x9", product="NVIDIA-X9", model="NVIDIA X9")
    (found,) = gpus_of(slices_of("a", [Gpu(index=0, uuid="GPU-0", type=odd)]), TYPES)["a"]
    assert (found.type.name, found.type.memory_bytes) == ("nvidia-x9", odd.memory_bytes)


def test_slices_of_other_drivers_are_left_alone() -> None:
    (one,) = slices_of("a", [Gpu(index=0, uuid="GPU-0", type=find_gpu_type("t4"))])
    assert gpus_of([replace(one, spec=replace(one.spec, driver="dra.example.com"))], TYPES) == {}


@pytest.mark.parametrize("is_mig", [True, False])
def test_slices_are_admitted_as_they_are(is_mig: bool) -> None:
    for one in slices_of("a", [Gpu(index=0, uuid="GPU-0", type=find_gpu_type("h100-80gb"), is_mig=is_mig)]):
        assert admit(msgspec.to_builtins(one), strict=True).object == one
