"""Pods get devices: the real placement over slices that are written as a driver would; the kubelet is pretended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import DEVICES_ANNOTATION, MEMORY_ANNOTATION, Gpu, MigInstance, Sharing
from penstock.decide.device_slices import slices_of
from penstock.decide.inventory import shares_of
from penstock.host.placement import PlacementController
from penstock.resources.core import Event, Node, NodeStatus
from penstock.resources.devices import (
    CelSelector,
    ClaimRequest,
    ClaimTemplateSpec,
    DeviceClaim,
    DeviceSelector,
    DeviceWish,
    ResourceClaimSpec,
    ResourceClaimTemplate,
)
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements
from penstock.testing.world import World, condition

pytestmark = pytest.mark.looptime
H100, L4 = find_gpu_type("h100-80gb"), find_gpu_type("l4")


class Fleet(World):
    """Node `h` with two H100, `l` with one L4, `m` with an H100 that is partitioned as needed, `t` with a T4 in two time slices."""

    def __init__(self) -> None:
        super().__init__(self._placement)
        self.kubelet.places = False

    def _placement(self, world: World) -> PlacementController:
        parts = (world.cluster, world.cache, world.recorder.named("placement"), world.clock)
        return PlacementController(*parts, gpu_types=load_gpu_types())

    async def make(self) -> None:
        halves = Sharing(strategy="time-slicing", replicas=2, resource="nvidia.com/gpu.shared")
        gpus = {
            "h": (Gpu(index=0, uuid="GPU-0", type=H100), Gpu(index=1, uuid="GPU-1", type=H100)),
            "l": (Gpu(index=0, uuid="GPU-l", type=L4),),
            "m": (Gpu(index=0, uuid="GPU-m", type=H100, is_mig=True),),
            "t": (Gpu(index=0, uuid="GPU-t", type=find_gpu_type("t4"), sharing=halves),),
        }
        for name, found in gpus.items():
            amounts = {"cpu": "16", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": str(len(found))}
            ready = (Condition(type="Ready", status="True"),)
            status = NodeStatus(allocatable=amounts, conditions=ready)
            await self.cluster.create(Node(metadata=ObjectMeta(name=name), status=status))
            for one in slices_of(name, found):
                await self.cluster.create(one)

    async def pod(self, name: str, limits: dict[str, str] | None = None, **more: Any) -> Pod:
        """A pod that was given two seconds to find a place."""
        annotations = more.pop("annotations", {})
        claims = more.pop("claims", ())
        container = Container(
            name="main", image="x", resources=ResourceRequirements(limits=limits or {}, claims=claims)
        )
        meta = ObjectMeta(name=name, namespace="default", annotations=annotations)
        await self.cluster.create(Pod(metadata=meta, spec=PodSpec(containers=(container,), **more)))
        await asyncio.sleep(2)
        return await self.cluster.get(Pod, name, "default")


async def test_whole_gpus_are_given_to_one_pod_each() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        given = [await fleet.pod(f"p{i}", {"nvidia.com/gpu": "1"}) for i in range(4)]
        uuids = [share.gpu for pod in given for share in shares_of(pod)]
        assert sorted(uuids) == ["GPU-0", "GPU-1", "GPU-l"]
        assert condition(given[3], "PodScheduled").reason == "Unschedulable"
        assert "Insufficient nvidia.com/gpu" in condition(given[3], "PodScheduled").message


async def test_a_class_is_understood_in_another_providers_words() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        pod = await fleet.pod(
            "p", {"nvidia.com/gpu": "1"}, node_selector={"cloud.google.com/gke-accelerator": "nvidia-l4"}
        )
        assert pod.spec.node_name == "l"


async def test_parts_by_memory_share_a_gpu_until_it_is_full() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        given = [await fleet.pod(f"p{i}", annotations={MEMORY_ANNOTATION: "20Gi"}) for i in range(8)]
        held = [share for pod in given for share in shares_of(pod)]
        assert sorted(share.gpu for share in held) == ["GPU-0"] * 3 + ["GPU-1"] * 3 + ["GPU-l"]
        assert {share.memory_bytes for share in held} == {20 << 30}
        assert not given[7].spec.node_name


async def test_instances_are_given_by_profile_and_start() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        given = [await fleet.pod(f"p{i}", {"nvidia.com/mig-3g.40gb": "1"}) for i in range(3)]
        shares = [share for pod in given for share in shares_of(pod)]
        assert sorted((share.gpu, share.profile, share.start) for share in shares) == [
            ("GPU-m", "3g.40gb", 0),
            ("GPU-m", "3g.40gb", 4),
        ]


async def test_replicas_of_a_shared_gpu_are_given_one_by_one() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        given = [await fleet.pod(f"p{i}", {"nvidia.com/gpu.shared": "1"}) for i in range(3)]
        assert [[share.replica for share in shares_of(pod)] for pod in given] == [[0], [1], []]


async def test_a_claim_is_answered_by_a_device_that_meets_its_condition() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        memory = "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('40Gi')) >= 0"
        wish = DeviceWish(
            device_class_name="gpu.nvidia.com",
            selectors=(DeviceSelector(cel=CelSelector(expression=memory)),),
        )
        spec = ResourceClaimSpec(devices=DeviceClaim(requests=(ClaimRequest(name="gpu", exactly=wish),)))
        template = ResourceClaimTemplate(
            metadata=ObjectMeta(name="big", namespace="default"), spec=ClaimTemplateSpec(spec=spec)
        )
        await fleet.cluster.create(template)
        given = [
            await fleet.pod(
                f"p{i}",
                claims=({"name": "mine"},),
                resource_claims=({"name": "mine", "resourceClaimTemplateName": "big"},),
            )
            for i in range(3)
        ]
        assert [pod.spec.node_name for pod in given] == ["h", "h", ""]
        assert {(share.claim, share.request) for pod in given for share in shares_of(pod)} == {
            ("mine", "gpu")
        }


async def test_what_can_never_be_had_is_said_and_placed_when_it_can() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        pod = await fleet.pod("p", {"nvidia.com/mig-1g.5gb": "1"})
        assert "no GPU here has the MIG profile 1g.5gb" in condition(pod, "PodScheduled").message
        found = (Gpu(index=0, uuid="GPU-a", type=find_gpu_type("a100-40gb"), is_mig=True),)
        ready = NodeStatus(
            allocatable={"cpu": "1", "memory": "1Gi", "pods": "9"},
            conditions=(Condition(type="Ready", status="True"),),
        )
        await fleet.cluster.create(Node(metadata=ObjectMeta(name="a"), status=ready))
        for one in slices_of("a", found):
            await fleet.cluster.create(one)
        await asyncio.sleep(2)
        assert (await fleet.cluster.get(Pod, "p", "default")).spec.node_name == "a"


async def test_nobody_takes_devices_by_writing_the_annotation() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        stolen = '[{"gpu":"GPU-0","milli":1000}]'
        pod = await fleet.pod("p", {"cpu": "1"}, annotations={DEVICES_ANNOTATION: stolen})
        assert pod.spec.node_name
        assert shares_of(pod) == ()


async def test_where_instances_are_offered_as_gpus_one_is_given_for_each() -> None:
    async with Fleet() as fleet:
        parts = tuple(MigInstance(uuid=f"MIG-{i}", profile="3g.40gb", start=i) for i in (0, 4))
        gpu = Gpu(index=0, uuid="GPU-s", type=H100, is_mig=True, mig_strategy="single", instances=parts)
        ready = (Condition(type="Ready", status="True"),)
        status = NodeStatus(allocatable={"cpu": "9", "memory": "9Gi", "pods": "9"}, conditions=ready)
        await fleet.cluster.create(Node(metadata=ObjectMeta(name="s"), status=status))
        for one in slices_of("s", (gpu,)):
            await fleet.cluster.create(one)
        given = [await fleet.pod(f"p{i}", {"nvidia.com/gpu": "1"}) for i in range(3)]
        assert [[share.instance for share in shares_of(pod)] for pod in given] == [["MIG-0"], ["MIG-4"], []]


async def test_selectors_that_leave_no_node_are_said_to_contradict_each_other() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        hdd = {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["hdd"]}]}
            ]
        }
        affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": hdd}}
        pod = await fleet.pod("p", node_selector={"disk": "ssd"}, affinity=affinity)
        assert "disk In [ssd] together with disk In [hdd]" in condition(pod, "PodScheduled").message


H100_WANTED = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "accelerator", "operator": "In", "values": ["h100-80gb"]}]}
            ]
        }
    }
}


@pytest.mark.parametrize(
    ("limits", "more", "words"),
    [
        ({"nvidia.com/gpu": "16"}, {}, "node h has 2 of 16 GPUs that nobody holds: free it, or request less"),
        ({"nvidia.com/mig-3g.20gb": "1"}, {}, "did you mean nvidia.com/mig-3g.40gb?"),
        (
            {},
            {"annotations": {MEMORY_ANNOTATION: "100Gi"}},
            "the largest GPU that will do (h100-80gb) has 79.6Gi",
        ),
        (
            {"nvidia.com/gpu": "1"},
            {"node_selector": {"gpu.nvidia.com/class": "L4"}, "affinity": H100_WANTED},
            "nodeSelector and node affinity contradict each other: no GPU is gpu.nvidia.com/class: L4 (that is l4) and accelerator "
            "In [h100-80gb] (that is h100-80gb)",
        ),
        (
            {"nvidia.com/gpu": "1"},
            {"node_selector": {"cloud.google.com/gke-accelerator": "nvidia-tesla-v100"}},
            "Insufficient nvidia.com/gpu of v100-16gb or v100-32gb",
        ),
    ],
)
async def test_what_is_impossible_is_explained_on_the_pod_and_in_an_event(
    limits: dict[str, str], more: dict[str, Any], words: str
) -> None:
    async with Fleet() as fleet:
        await fleet.make()
        pod = await fleet.pod("p", limits, **more)
        assert words in condition(pod, "PodScheduled").message
        [event] = [one for one in (await fleet.cluster.list(Event)).items if one.reason == "FailedScheduling"]
        assert event.message == condition(pod, "PodScheduled").message


async def test_parts_that_together_are_more_than_their_gpus_wait_and_say_what_is_left() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        given = [await fleet.pod(f"p{i}", annotations={MEMORY_ANNOTATION: "30Gi"}) for i in range(5)]
        assert [pod.spec.node_name for pod in given] == ["h"] * 4 + [""]
        message = condition(given[4], "PodScheduled").message
        assert "node l has at most 22.5Gi of 30.0Gi free on a GPU: free it, or request less" in message


async def test_an_affinity_in_another_providers_words_chooses_node_and_devices() -> None:
    async with Fleet() as fleet:
        await fleet.make()
        given = [await fleet.pod(f"p{i}", {"nvidia.com/gpu": "1"}, affinity=H100_WANTED) for i in range(3)]
        assert [pod.spec.node_name for pod in given] == ["h", "h", ""]
