from __future__ import annotations

from typing import Any

import pytest

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import DeviceRequest, Gpu, MigInstance
from penstock.decide.device_claims import Claims
from penstock.decide.device_requests import Fleet, asked
from penstock.resources.devices import (
    CapacityRequests,
    CelSelector,
    ClaimConstraint,
    ClaimRequest,
    DeviceClaim,
    DeviceSelector,
    DeviceWish,
    ResourceClaimSpec,
)
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements

PARTS = (
    MigInstance(uuid="MIG-1", profile="1g.10gb", start=0),
    MigInstance(uuid="MIG-2", profile="3g.40gb", start=4),
)
GPUS = (
    Gpu(index=0, uuid="GPU-h", type=find_gpu_type("h100-80gb")),
    Gpu(index=1, uuid="GPU-l", type=find_gpu_type("l4")),
    Gpu(index=2, uuid="GPU-m", type=find_gpu_type("a100-80gb"), is_mig=True, instances=PARTS),
)
POD = Pod(
    metadata=ObjectMeta(name="p"),
    spec=PodSpec(
        containers=(
            Container(name="a", resources=ResourceRequirements(claims=({"name": "mine"},))),
            Container(name="b"),
        ),
        resource_claims=({"name": "mine", "resourceClaimTemplateName": "t"},),
    ),
)


def wish(*expressions: str, kind: str = "gpu.nvidia.com", **more: Any) -> DeviceWish:
    selectors = tuple(DeviceSelector(cel=CelSelector(expression=one)) for one in expressions)
    return DeviceWish(device_class_name=kind, selectors=selectors, **more)


def answer(
    *requests: ClaimRequest, gpus: tuple[Gpu, ...] = GPUS, **devices: Any
) -> tuple[DeviceRequest, ...] | str:
    spec = ResourceClaimSpec(devices=DeviceClaim(requests=requests, **devices))
    return asked(POD, Fleet(gpus=gpus, types=load_gpu_types(), claims=Claims(specs={"mine": spec})))


def one(*expressions: str, **more: Any) -> DeviceRequest:
    found = answer(ClaimRequest(name="r", exactly=wish(*expressions, **more)))
    assert isinstance(found, tuple)
    return found[0]


GPU = "device.attributes['gpu.nvidia.com']"


def test_a_class_alone_takes_any_gpu_that_is_not_partitioned() -> None:
    assert one(count=2) == DeviceRequest(container="a", count=2, gpus=frozenset(("GPU-h", "GPU-l")))


@pytest.mark.parametrize(
    "expression",
    [
        f"{GPU}.productName == 'NVIDIA H100 80GB HBM3'",
        f"{GPU}.productName.lowerAscii().contains('h100')",
        "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('40Gi')) >= 0",
        f"{GPU}.architecture == 'Hopper' && {GPU}.cudaComputeCapability.compareTo(semver('9.0.0')) >= 0",
        f"{GPU}.uuid == 'GPU-h'",
    ],
)
def test_conditions_name_the_devices_that_will_do(expression: str) -> None:
    assert one(expression).gpus == {"GPU-h"}


def test_an_instance_is_asked_for_by_the_smallest_profile_that_will_do() -> None:
    assert one(kind="mig.nvidia.com") == DeviceRequest(
        container="a", milli=0, profile="1g.10gb", gpus=frozenset(("GPU-m",))
    )
    assert one(f"{GPU}.profile == '3g.40gb'", kind="mig.nvidia.com").profile == "3g.40gb"
    large = "device.capacity['gpu.nvidia.com'].memory.isGreaterThan(quantity('20Gi'))"
    assert one(large, kind="mig.nvidia.com").profile == "3g.40gb"


def test_memory_of_a_device_is_a_part_of_it() -> None:
    request = one(capacity=CapacityRequests(requests={"memory": "10Gi"}))
    assert (request.milli, request.memory_bytes) == (0, 10 << 30)


def test_of_alternatives_the_first_that_there_is_is_taken() -> None:
    first = (
        wish(f"{GPU}.architecture == 'Blackwell'", name="new"),
        wish(f"{GPU}.architecture == 'Ada Lovelace'", name="old"),
    )
    found = answer(ClaimRequest(name="r", first_available=first))
    assert isinstance(found, tuple)
    assert found[0].gpus == {"GPU-l"}


def test_without_any_gpu_the_answer_is_left_to_placement() -> None:
    assert answer(ClaimRequest(name="r", exactly=wish()), gpus=()) == (DeviceRequest(container="a"),)


@pytest.mark.parametrize(
    ("asking", "words"),
    [
        (wish(f"{GPU}.architecture == 'Blackwell'"), f"none of 4 devices will do: {GPU}.architecture == 'Blackwell'"),
        (wish(f"{GPU}.colour == 'red'"), "no such key: colour"),
        (wish(kind="fpga.example.com"), "there is no DeviceClass fpga.example.com; there are gpu.nvidia.com, mig.nvidia.com"),
        (wish(allocation_mode="All"), "allocationMode All is not supported"),
        (wish(admin_access=True), "adminAccess is not supported"),
        (wish(capacity=CapacityRequests(requests={"memory": "100Gi"})), "the largest that will do has"),
    ],
)  # fmt: skip
def test_what_can_never_be_had_is_explained(asking: DeviceWish, words: str) -> None:
    found = answer(ClaimRequest(name="r", exactly=asking))
    assert isinstance(found, str)
    assert words in found
    assert "resourceClaims[mine].requests[r]" in found


def test_a_claim_that_is_not_there_and_constraints_are_refused() -> None:
    missing = asked(POD, Fleet(gpus=GPUS, types=load_gpu_types()))
    assert isinstance(missing, str)
    assert "does not exist" in missing
    constrained = answer(
        ClaimRequest(name="r", exactly=wish()),
        constraints=(ClaimConstraint(match_attribute="gpu.nvidia.com/x"),),
    )
    assert "constraints between requests are not supported" in constrained
