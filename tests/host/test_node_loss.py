"""A node that disappears: its pods come back elsewhere, and what is said of it is true."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import Gpu
from penstock.decide.device_slices import slices_of
from penstock.decide.inventory import shares_of
from penstock.decide.node_loss import SILENCE_S, STAY_S
from penstock.host.node_loss import NodeLossController
from penstock.host.placement import PlacementController
from penstock.kit.timestamps import rfc3339
from penstock.resources.core import Event, Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements, Toleration
from penstock.testing.factories import deployment
from penstock.testing.world import World, condition, is_active

pytestmark = pytest.mark.looptime


class Pair(World):
    """Nodes `a` and `b` with a GPU each; whoever is in `alive` beats."""

    def __init__(self) -> None:
        super().__init__(self._placement, self._loss)
        self.kubelet.places = False
        self.alive = {"a", "b"}

    def _placement(self, world: World) -> PlacementController:
        parts = (world.cluster, world.cache, world.recorder.named("placement"), world.clock)
        return PlacementController(*parts, gpu_types=load_gpu_types())

    def _loss(self, world: World) -> NodeLossController:
        return NodeLossController(world.cluster, world.cache, world.recorder.named("node-loss"), world.clock)

    async def make(self, name: str = "web") -> None:
        for node in ("a", "b"):
            await self.cluster.create(Node(metadata=ObjectMeta(name=node)))
            for one in slices_of(node, (Gpu(index=0, uuid=f"GPU-{node}", type=find_gpu_type("l4")),)):
                await self.cluster.create(one)
            await self.beat(node)
        wanted = deployment(name)
        needs = ResourceRequirements(limits={"nvidia.com/gpu": "1"})
        container = Container(name="main", image="x", resources=needs)
        template = msgspec.structs.replace(wanted.spec.template, spec=PodSpec(containers=(container,)))
        await self.cluster.create(
            msgspec.structs.replace(wanted, spec=msgspec.structs.replace(wanted.spec, template=template))
        )
        await self.time(10)

    async def beat(self, name: str) -> None:
        node = await self.cluster.get(Node, name)
        now = rfc3339(self.clock.now())
        ready = Condition(type="Ready", status="True", last_heartbeat_time=now)
        amounts = {"cpu": "16", "memory": "64Gi", "pods": "110"}
        status = NodeStatus(allocatable=amounts, conditions=(ready,))
        await self.cluster.replace(msgspec.structs.replace(node, status=status), subresource="status")

    async def time(self, seconds: float) -> None:
        """Time passes, and those who are alive say so every half minute."""
        end = self.clock.now() + seconds
        while (left := end - self.clock.now()) > 0:
            await asyncio.sleep(min(30.0, left))
            for name in self.alive:
                await self.beat(name)

    async def pod(self) -> Pod:
        [pod] = [one for one in (await self.cluster.list(Pod)).items if is_active(one)]
        return pod

    async def reasons(self) -> set[str]:
        return {one.reason for one in (await self.cluster.list(Event)).items}


async def test_pods_of_a_node_that_falls_silent_come_back_elsewhere() -> None:
    async with Pair() as pair:
        await pair.make()
        before = await pair.pod()
        lost = before.spec.node_name
        pair.alive.discard(lost)
        await pair.time(SILENCE_S + 40)
        node = await pair.cluster.get(Node, lost)
        assert condition(node, "Ready").status == "Unknown"
        assert [one.effect for one in node.spec.taints] == ["NoSchedule", "NoExecute"]
        assert (await pair.pod()).metadata.uid == before.metadata.uid  # it may come back
        await pair.time(STAY_S)
        after = await pair.pod()
        assert after.spec.node_name not in ("", lost)
        assert [share.gpu for share in shares_of(after)] == [f"GPU-{after.spec.node_name}"]
        assert await pair.reasons() >= {"NodeNotReady", "NodeLost"}


async def test_a_node_that_comes_back_in_time_keeps_its_pods() -> None:
    async with Pair() as pair:
        await pair.make()
        before = await pair.pod()
        pair.alive.discard(before.spec.node_name)
        await pair.time(SILENCE_S + 40)
        pair.alive.add(before.spec.node_name)
        await pair.time(STAY_S + 60)
        assert (await pair.pod()).metadata.uid == before.metadata.uid
        node = await pair.cluster.get(Node, before.spec.node_name)
        assert node.spec.taints == ()
        assert condition(node, "Ready").status == "True"


async def test_pods_of_a_node_that_was_deleted_come_back_elsewhere() -> None:
    async with Pair() as pair:
        await pair.make()
        lost = (await pair.pod()).spec.node_name
        pair.alive.discard(lost)
        await pair.cluster.delete(Node, lost, "")
        await pair.time(SILENCE_S + 30)
        assert (await pair.pod()).spec.node_name not in ("", lost)


async def test_a_toleration_says_how_long_a_pod_stays() -> None:
    async with Pair() as pair:
        await pair.make()
        before = await pair.pod()
        patient = Toleration(key="node.kubernetes.io/unreachable", operator="Exists", effect="NoExecute")
        spec = msgspec.structs.replace(before.spec, tolerations=(patient,))
        await pair.cluster.replace(msgspec.structs.replace(before, spec=spec))
        pair.alive.discard(before.spec.node_name)
        await pair.time(SILENCE_S + 2 * STAY_S)
        assert (await pair.pod()).metadata.uid == before.metadata.uid
