"""Gangs are bound all at once or not at all, over the real store and placement; the kubelet is pretended."""

from __future__ import annotations

import asyncio

import pytest

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import Gpu
from penstock.decide.device_slices import slices_of
from penstock.decide.gang import GANG, GANG_SIZE
from penstock.host.placement import GANG_TIMEOUT_S, PlacementController
from penstock.kit.errors import NotFound
from penstock.resources.core import Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements
from penstock.testing.world import World, condition

pytestmark = pytest.mark.looptime


class Racks(World):
    """Nodes with two L4 each."""

    def __init__(self) -> None:
        super().__init__(self._placement)
        self.kubelet.places = False

    def _placement(self, world: World) -> PlacementController:
        parts = (world.cluster, world.cache, world.recorder.named("placement"), world.clock)
        return PlacementController(*parts, gpu_types=load_gpu_types())

    async def node(self, name: str) -> None:
        gpus = tuple(Gpu(index=i, uuid=f"{name}-{i}", type=find_gpu_type("l4")) for i in range(2))
        amounts = {"cpu": "16", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": "2"}
        status = NodeStatus(allocatable=amounts, conditions=(Condition(type="Ready", status="True"),))
        await self.cluster.create(Node(metadata=ObjectMeta(name=name), status=status))
        for one in slices_of(name, gpus):
            await self.cluster.create(one)

    async def rank(self, number: int, size: int = 2) -> None:
        limits = {"nvidia.com/gpu": "2"}
        container = Container(name="main", image="x", resources=ResourceRequirements(limits=limits))
        meta = ObjectMeta(
            name=f"rank-{number}",
            namespace="default",
            labels={GANG: "train"},
            annotations={GANG_SIZE: str(size)},
        )
        await self.cluster.create(Pod(metadata=meta, spec=PodSpec(containers=(container,))))
        await asyncio.sleep(2)

    async def homes(self, count: int = 2) -> list[str]:
        return [
            (await self.cluster.get(Pod, f"rank-{number}", "default")).spec.node_name
            for number in range(count)
        ]

    async def said(self, number: int) -> str:
        return condition(await self.cluster.get(Pod, f"rank-{number}", "default"), "PodScheduled").message


async def test_a_gang_waits_for_its_last_pod_and_for_room_for_all() -> None:
    async with Racks() as racks:
        await racks.node("a")
        await racks.rank(0)
        assert await racks.said(0) == "gang train waits for all of its pods: 1 of 2 are there"
        await racks.rank(1)
        assert await racks.homes() == ["", ""]
        assert "only 1 pods of the gang find a node together" in await racks.said(0)
        await racks.node("b")
        await asyncio.sleep(2)
        assert sorted(await racks.homes()) == ["a", "b"]


async def test_a_gang_that_lost_a_pod_gives_up_its_room_in_the_end() -> None:
    async with Racks() as racks:
        await racks.node("a")
        await racks.node("b")
        await racks.rank(0)
        await racks.rank(1)
        (lost,) = [number for number, home in enumerate(await racks.homes()) if home == "b"]
        await racks.cluster.delete(Node, "b")
        await racks.cluster.delete(Pod, f"rank-{lost}", "default")
        await asyncio.sleep(60)
        await racks.rank(2)
        assert "only 0 pods of the gang find a node together" in await racks.said(2)
        assert (await racks.cluster.get(Pod, f"rank-{1 - lost}", "default")).spec.node_name == "a"
        await asyncio.sleep(GANG_TIMEOUT_S + 60)
        with pytest.raises(NotFound):
            await racks.cluster.get(Pod, f"rank-{1 - lost}", "default")
