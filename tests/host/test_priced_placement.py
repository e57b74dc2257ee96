"""Prices weigh in where they are known, and are said of each placement; the kubelet is pretended."""

from __future__ import annotations

import asyncio

import pytest

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import MEMORY_ANNOTATION, Gpu
from penstock.decide.device_slices import slices_of
from penstock.decide.prices import Price
from penstock.host.placement import PlacementController
from penstock.resources.core import Event, Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements
from penstock.testing.world import World

pytestmark = pytest.mark.looptime
L4 = find_gpu_type("l4")
PRICES = tuple(
    Price(provider=name, gpu="l4", usd_micros=usd, date="2026-01-01", source="a test")
    for name, usd in (("dear", 2_000_000), ("cheap", 800_000))
)


class Clouds(World):
    """A node with an L4 of each provider."""

    def __init__(self) -> None:
        super().__init__(self._placement)
        self.kubelet.places = False

    def _placement(self, world: World) -> PlacementController:
        parts = (world.cluster, world.cache, world.recorder.named("placement"), world.clock)
        return PlacementController(*parts, gpu_types=load_gpu_types(), prices=PRICES)

    async def make(self, *providers: str) -> None:
        for name in providers:
            labels = {"penstock.dev/provider": name}
            status = NodeStatus(
                allocatable={"cpu": "16", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": "1"},
                conditions=(Condition(type="Ready", status="True"),),
            )
            await self.cluster.create(Node(metadata=ObjectMeta(name=name, labels=labels), status=status))
            for one in slices_of(name, (Gpu(index=0, uuid=f"GPU-{name}", type=L4),)):
                await self.cluster.create(one)

    async def pod(self, name: str, limits: dict[str, str], **annotations: str) -> tuple[str, str]:
        """Its node, and what the Event says of why."""
        container = Container(name="main", image="x", resources=ResourceRequirements(limits=limits))
        meta = ObjectMeta(name=name, namespace="default", annotations=annotations)
        await self.cluster.create(Pod(metadata=meta, spec=PodSpec(containers=(container,))))
        await asyncio.sleep(2)
        pod = await self.cluster.get(Pod, name, "default")
        said = [e for e in (await self.cluster.list(Event)).items if e.involved_object.name == name]
        return pod.spec.node_name, said[-1].message


async def test_the_cheaper_of_two_equal_nodes_is_taken_and_the_price_is_said() -> None:
    async with Clouds() as clouds:
        await clouds.make("dear", "cheap")
        node, why = await clouds.pod("p", {"nvidia.com/gpu": "1"})
        assert node == "cheap"
        assert why.endswith("to cheap (least fragmenting of 2 fitting nodes, 0.80 USD/h)")


async def test_a_part_of_a_gpu_costs_its_part() -> None:
    async with Clouds() as clouds:
        await clouds.make("cheap")
        half = str(L4.memory_bytes // 2)
        _, why = await clouds.pod("p", {"cpu": "1"}, **{MEMORY_ANNOTATION: half})
        assert why.endswith("0.40 USD/h)")


async def test_a_node_without_a_price_is_placed_on_and_no_price_is_said() -> None:
    async with Clouds() as clouds:
        await clouds.make("elsewhere")
        node, why = await clouds.pod("p", {"nvidia.com/gpu": "1"})
        assert node == "elsewhere"
        assert "USD" not in why
