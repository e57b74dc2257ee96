"""Preemption counts devices one by one: who gives way is who holds the GPUs that are wanted, and the room is kept for whom it was made."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from test_preemption_controller import GpuWorld, ledger

from penstock.app.gpu_types import load_gpu_types
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu
from penstock.decide.device_slices import slices_of
from penstock.host.kubelet.layout import Layout
from penstock.host.placement import PlacementController
from penstock.host.preemption import PreemptionController
from penstock.resources.pod import Pod
from penstock.testing.world import World

pytestmark = pytest.mark.looptime
H100 = next(one for one in load_gpu_types() if one.name == "h100-80gb")


class DeviceWorld(GpuWorld):
    """The node's four GPUs are H100s, said in ResourceSlices."""

    def placement(self, world: World) -> PlacementController:
        parts = (world.cluster, world.cache, world.recorder.named("placement"), world.clock)
        return PlacementController(*parts, gpu_types=load_gpu_types())

    def preemption(self, world: World, layout: Layout) -> PreemptionController:
        parts = (world.cluster, world.cache, world.recorder.named("preemption"), world.clock)
        return PreemptionController(*parts, layout=layout, gpu_types=load_gpu_types())

    async def prepared(self) -> None:
        await super().prepared()
        gpus = [Gpu(index=i, uuid=f"GPU-{i}", type=H100) for i in range(4)]
        for one in slices_of("n1", gpus):
            await self.cluster.create(one)


def gpus_of(pod: Pod) -> set[str]:
    return {share["gpu"] for share in json.loads(pod.metadata.annotations.get(DEVICES_ANNOTATION, "[]"))}


async def test_the_gpus_of_who_gave_way_go_to_whom_it_gave_way(tmp_path: Path) -> None:
    async with DeviceWorld(tmp_path) as world:
        await world.prepared()
        for name in ("a", "b"):
            await world.train(name, gpus=2)
        await asyncio.sleep(300)
        for name in ("a", "b"):
            world.save(name, 1)
            await asyncio.sleep(100)
        held = {name: gpus_of((await world.of(name))[0]) for name in ("a", "b")}
        assert held["a"] | held["b"] == {f"GPU-{i}" for i in range(4)}
        await world.serve("chat", gpus=2)
        await asyncio.sleep(5)
        await world.serve("small", gpus=1, priority="training")
        await asyncio.sleep(60)
        [chat], [entry] = await world.of("chat"), (await ledger(world)).entries
        given_way = entry.victim.removeprefix("default/").split("-")[0]
        assert gpus_of(chat) == held[given_way]
        assert (entry.by, entry.gpus) == ("default/chat", 2)
        [small] = await world.of("small")
        assert not small.spec.node_name
