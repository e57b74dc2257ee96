from __future__ import annotations

from typing import Any

import pytest

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import DeviceRequest, Gpu, MigInstance, Share
from penstock.decide.claim_fit import fitting
from penstock.decide.device_claims import Claims
from penstock.decide.device_fit import Asker
from penstock.decide.device_requests import Fleet, asked
from penstock.decide.inventory import Held, empty_room, less
from penstock.resources.core import Node
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


def given(*requests: ClaimRequest, held: str = "", **devices: Any) -> list[tuple[str, str]] | str:
    """The GPU and the device of each share on a node with all of these; `held` is the UUID of one that another pod has."""
    found = answer(*requests, **devices)
    if isinstance(found, str):
        return found
    rooms = empty_room(Node(), GPUS, {}).gpus
    rooms = tuple(
        less(room, (Share(gpu=held, milli=1000, memory_bytes=1),), "x") if room.gpu.uuid == held else room
        for room in rooms
    )
    choices = fitting(found, rooms, Asker("me"))
    if isinstance(choices, str):
        return choices
    return [(share.gpu, share.device) for share in choices[0].shares]


def gpus_for(*expressions: str, **more: Any) -> set[str]:
    """All GPUs that a request for one device may get."""
    found = answer(ClaimRequest(name="r", exactly=wish(*expressions, **more)))
    assert isinstance(found, tuple)
    choices = fitting(found, empty_room(Node(), GPUS, {}).gpus, Asker("me"))
    assert isinstance(choices, tuple)
    return {share.gpu for choice in choices for share in choice.shares}


GPU = "device.attributes['gpu.nvidia.com']"


def test_a_class_alone_takes_any_gpu_that_is_not_partitioned() -> None:
    assert gpus_for() == {"GPU-h", "GPU-l"}
    assert sorted(given(ClaimRequest(name="r", exactly=wish(count=2)))) == [
        ("GPU-h", "gpu-0"),
        ("GPU-l", "gpu-1"),
    ]
    assert (
        given(ClaimRequest(name="r", exactly=wish(count=3)))
        == "Insufficient devices for claim mine, request r"
    )


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
    assert gpus_for(expression) == {"GPU-h"}


def test_an_instance_is_given_of_the_smallest_profile_that_will_do() -> None:
    smallest = [("GPU-m", "gpu-2-mig-19-0-1")]
    large = "device.capacity['gpu.nvidia.com'].memory.isGreaterThan(quantity('20Gi'))"
    assert one(kind="mig.nvidia.com").profile == "1g.10gb"
    assert given(ClaimRequest(name="r", exactly=wish(kind="mig.nvidia.com"))) == smallest
    for condition in (f"{GPU}.profile == '3g.40gb'", large):
        wanted = ClaimRequest(name="r", exactly=wish(condition, kind="mig.nvidia.com"))
        assert given(wanted) == [("GPU-m", "gpu-2-mig-9-4-4")]


def test_memory_of_a_device_is_a_part_of_it() -> None:
    request = one(capacity=CapacityRequests(requests={"memory": "10Gi"}))
    assert (request.milli, request.memory_bytes) == (0, 10 << 30)


def test_other_capacities_are_what_a_device_must_have() -> None:
    assert gpus_for(capacity=CapacityRequests(requests={"multiprocessors": "100"})) == {"GPU-h"}


def test_of_alternatives_the_first_that_can_be_had_is_taken() -> None:
    first = (
        wish(f"{GPU}.architecture == 'Blackwell'", name="none"),
        wish(f"{GPU}.architecture == 'Hopper'", name="new"),
        wish(f"{GPU}.architecture == 'Ada Lovelace'", name="old"),
    )
    request = ClaimRequest(name="r", first_available=first)
    assert given(request) == [("GPU-h", "gpu-0")]
    assert given(request, held="GPU-h") == [("GPU-l", "gpu-1")]


def test_without_any_gpu_the_answer_is_left_to_placement() -> None:
    found = answer(ClaimRequest(name="r", exactly=wish()), gpus=())
    assert isinstance(found, tuple)
    assert (found[0].claim, found[0].request, found[0].milli) == ("mine", "r", 1000)


def test_all_devices_of_a_node_are_given_or_none_of_them() -> None:
    every = ClaimRequest(name="r", exactly=wish(allocation_mode="All"))
    assert sorted(given(every)) == [("GPU-h", "gpu-0"), ("GPU-l", "gpu-1")]
    assert given(every, held="GPU-l") == "Insufficient devices for claim mine, request r"


def test_who_administers_sees_devices_that_others_hold_and_holds_nothing() -> None:
    spec = ResourceClaimSpec(
        devices=DeviceClaim(
            requests=(ClaimRequest(name="r", exactly=wish(admin_access=True, allocation_mode="All")),)
        )
    )
    claims = Claims(specs={"mine": spec}, may_administer=True)
    found = asked(POD, Fleet(gpus=GPUS, types=load_gpu_types(), claims=claims))
    assert isinstance(found, tuple)
    full = empty_room(Node(), GPUS, {})
    full = full.bound(Held(Pod(), "x", {}, (Share(gpu="GPU-h", milli=1000),)))
    choices = fitting(found, full.gpus, Asker("me"))
    assert isinstance(choices, tuple)
    assert {share.gpu for share in choices[0].shares} == {"GPU-h", "GPU-l"}
    assert all(share.is_admin for share in choices[0].shares)
    after = full.bound(Held(POD, "me", {}, choices[0].shares))
    assert after.gpus == full.gpus


def test_constraints_are_met_by_taking_earlier_choices_back() -> None:
    """The smallest part for `a` is where no part for `b` is; both are to be on one GPU."""
    parts = (*PARTS, MigInstance(uuid="MIG-3", profile="2g.20gb", start=2))
    first = Gpu(
        index=0,
        uuid="GPU-1",
        type=find_gpu_type("a100-80gb"),
        is_mig=True,
        instances=(MigInstance(uuid="MIG-0", profile="1g.10gb", start=0),),
    )
    second = Gpu(index=1, uuid="GPU-2", type=find_gpu_type("a100-80gb"), is_mig=True, instances=parts)
    requests = (
        ClaimRequest(name="a", exactly=wish(f"{GPU}.profile == '1g.10gb'", kind="mig.nvidia.com")),
        ClaimRequest(name="b", exactly=wish(f"{GPU}.profile == '3g.40gb'", kind="mig.nvidia.com")),
    )
    same = ClaimConstraint(match_attribute="gpu.nvidia.com/parentUUID")
    found = answer(*requests, gpus=(first, second), constraints=(same,))
    assert isinstance(found, tuple)
    choices = fitting(found, empty_room(Node(), (first, second), {}).gpus, Asker("me"))
    assert isinstance(choices, tuple)
    assert [(s.gpu, s.profile) for s in choices[0].shares] == [("GPU-2", "1g.10gb"), ("GPU-2", "3g.40gb")]
    refused = fitting(found, empty_room(Node(), (first,), {}).gpus, Asker("me"))
    assert refused == "Insufficient devices for claim mine, request b"


def test_constraints_that_no_devices_meet_are_named() -> None:
    requests = (ClaimRequest(name="a", exactly=wish()), ClaimRequest(name="b", exactly=wish()))
    same = ClaimConstraint(match_attribute="gpu.nvidia.com/productName")
    other = ClaimConstraint(requests=("a", "b"), distinct_attribute="gpu.nvidia.com/architecture")
    assert given(*requests, constraints=(same,)) == (
        "claim mine: no free devices meet its constraints (same gpu.nvidia.com/productName)"
    )
    assert len(given(*requests, constraints=(other,))) == 2


def test_what_is_tried_for_a_claim_is_bounded() -> None:
    many = tuple(Gpu(index=i, uuid=f"GPU-{i}", type=find_gpu_type("l4")) for i in range(24))
    request = ClaimRequest(name="r", exactly=wish(count=12))
    impossible = ClaimConstraint(distinct_attribute="gpu.nvidia.com/productName")
    both = (request, ClaimRequest(name="s", exactly=wish(count=13)))
    found = answer(*both, gpus=many)
    assert isinstance(found, tuple)
    refused = fitting(found, empty_room(Node(), many, {}).gpus, Asker("me"))
    assert refused == "claim mine: 1000 choices of devices were tried, none meets all requests"
    distinct = answer(request, gpus=many, constraints=(impossible,))
    assert isinstance(distinct, tuple)
    assert "distinct gpu.nvidia.com/productName" in fitting(
        distinct, empty_room(Node(), many, {}).gpus, Asker("me")
    )


@pytest.mark.parametrize(
    ("asking", "words"),
    [
        (wish(f"{GPU}.architecture == 'Blackwell'"), f"none of 4 devices will do: {GPU}.architecture == 'Blackwell'"),
        (wish(f"{GPU}.colour == 'red'"), "no such key: colour"),
        (wish(kind="fpga.example.com"), "there is no DeviceClass fpga.example.com; there are gpu.nvidia.com, mig.nvidia.com"),
        (wish(count=33), "found 33 devices, a claim is given at most 32"),
        (wish(admin_access=True), "only for namespaces with the label resource.kubernetes.io/admin-access=true"),
        (wish(capacity=CapacityRequests(requests={"memory": "100Gi"})), "found 100Gi of memory, the largest that will do has 81559Mi"),
        (wish(capacity=CapacityRequests(requests={"memory": "lots"})), "lots"),
    ],
)  # fmt: skip
def test_what_can_never_be_had_is_explained(asking: DeviceWish, words: str) -> None:
    found = answer(ClaimRequest(name="r", exactly=asking))
    assert isinstance(found, str)
    assert words in found
    assert "resourceClaims[mine].requests[r]" in found


def test_a_claim_that_is_not_there_is_refused() -> None:
    missing = asked(POD, Fleet(gpus=GPUS, types=load_gpu_types()))
    assert isinstance(missing, str)
    assert "does not exist" in missing
