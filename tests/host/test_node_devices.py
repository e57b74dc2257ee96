"""Nodes and their GPUs on virtual time: the real controllers over the real store; only devices and their faults are given."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, MigInstance, Share
from penstock.decide.device_slices import gpus_of
from penstock.decide.gpu_health import LOST, ROW_REMAP, XID, GpuFault
from penstock.host.device_eviction import DeviceEvictionController
from penstock.host.node_devices import CONFIG_LABEL, RESET_ANNOTATION, TAINTS_ANNOTATION, NodeDevices
from penstock.host.nodes import NodeController, NodeTemplate
from penstock.kit.timestamps import rfc3339
from penstock.resources.core import Node
from penstock.resources.devices import ResourceSlice
from penstock.resources.pod import Pod, Toleration
from penstock.testing.factories import config_map, deployment
from penstock.testing.world import World, condition, is_active

pytestmark = pytest.mark.looptime
TYPES = load_gpu_types()
H100 = find_gpu_type("h100-80gb")
TWO = (
    Gpu(index=0, uuid="GPU-0", type=H100, driver="565.57.1"),
    Gpu(index=1, uuid="GPU-1", type=H100, driver="565.57.1"),
)


class Machine(World):
    """This machine `n` with two GPUs, and a declared node `d` with one that is partitioned."""

    def __init__(self, home: Path) -> None:
        self.gpus = TWO
        self.faults: list[GpuFault] = []
        self.standing: list[GpuFault] = []
        parts = (MigInstance(uuid="MIG-0", profile="1g.5gb", start=0),)
        declared = Gpu(index=0, uuid="GPU-d", type=find_gpu_type("a100-40gb"), is_mig=True, instances=parts)
        self.templates = [
            NodeTemplate(name="n", capacity={"cpu": "4"}),
            NodeTemplate(name="d", capacity={"cpu": "8"}, gpus=(declared,), labels={"zone": "a"}),
        ]
        self.home = home
        super().__init__(self._nodes, self._eviction)

    def _nodes(self, world: World) -> NodeController:
        parts = (world.cluster, world.cache, world.recorder.named("nodes"), world.clock)
        devices = NodeDevices(
            *parts,
            types=TYPES,
            local="n",
            discover=lambda: self.gpus,
            faults=self,
            plugin_config=("default", "plugin"),
        )
        self.nodes = NodeController(*parts, home=self.home, nodes=self.templates, devices=devices)
        return self.nodes

    def _eviction(self, world: World) -> DeviceEvictionController:
        parts = (world.cluster, world.cache, world.recorder.named("eviction"), world.clock)
        return DeviceEvictionController(*parts, types=TYPES)

    def look(self) -> tuple[GpuFault, ...]:
        told = (*self.faults, *self.standing)
        self.faults.clear()
        return told

    async def known(self, node: str = "n") -> tuple[Gpu, ...]:
        return gpus_of((await self.cluster.list(ResourceSlice)).items, TYPES).get(node, ())

    async def node(self, name: str = "n") -> Node:
        return await self.cluster.get(Node, name)

    async def generation(self) -> int:
        slices = (await self.cluster.list(ResourceSlice)).items
        return max(one.spec.pool.generation for one in slices if one.spec.node_name == "n")


async def test_a_nodes_gpus_are_told_in_slices_resources_and_labels(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await machine.nodes.register()
    assert await machine.known() == TWO
    node = await machine.node()
    assert node.status.allocatable["nvidia.com/gpu"] == "2"
    assert node.metadata.labels["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert condition(node, "GPUProblem").status == "False"
    declared = await machine.node("d")
    assert declared.status.allocatable["nvidia.com/mig-1g.5gb"] == "1"
    assert declared.metadata.labels["nvidia.com/mig-1g.5gb.memory"] == "4864"
    assert declared.metadata.labels["zone"] == "a"


async def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    async with Machine(tmp_path) as machine:
        await machine.nodes.register()
        await asyncio.sleep(120)
        assert await machine.generation() == 1


async def test_a_gpu_that_is_gone_leaves_slices_and_labels(tmp_path: Path) -> None:
    async with Machine(tmp_path) as machine:
        await machine.nodes.register()
        machine.gpus = ()
        await asyncio.sleep(40)
        node = await machine.node()
        assert "nvidia.com/gpu" not in node.status.allocatable
        assert not [name for name in node.metadata.labels if name.startswith("nvidia.com/")]
        assert await machine.known() == ()


async def test_a_device_fault_taints_the_device_until_it_was_reset(tmp_path: Path) -> None:
    async with Machine(tmp_path) as machine:
        await machine.nodes.register()
        machine.faults.append(GpuFault("GPU-1", XID, "79"))
        await asyncio.sleep(40)
        node = await machine.node()
        assert (node.status.capacity["nvidia.com/gpu"], node.status.allocatable["nvidia.com/gpu"]) == (
            "2",
            "1",
        )
        assert "XID 79 (the device fell off the bus)" in condition(node, "GPUProblem").message
        assert [gpu.taints[0].effect for gpu in await machine.known() if gpu.taints] == ["NoExecute"]
        assert any("GPUUnhealthy" in event for event in await machine.events())
        await asyncio.sleep(120)
        assert [gpu.uuid for gpu in await machine.known() if gpu.taints] == ["GPU-1"]
        reset = {"metadata": {"annotations": {RESET_ANNOTATION: rfc3339(machine.clock.now())}}}
        await machine.cluster.patch(Node, "n", "", reset)
        await asyncio.sleep(5)
        assert await machine.known() == TWO


async def test_a_programs_own_fault_says_nothing_about_the_device(tmp_path: Path) -> None:
    async with Machine(tmp_path) as machine:
        await machine.nodes.register()
        machine.faults.append(GpuFault("GPU-1", XID, "31"))
        await asyncio.sleep(40)
        assert await machine.known() == TWO


async def test_a_fault_that_stands_goes_when_it_is_gone(tmp_path: Path) -> None:
    async with Machine(tmp_path) as machine:
        await machine.nodes.register()
        machine.standing.append(GpuFault("GPU-0", ROW_REMAP, "pending"))
        await asyncio.sleep(40)
        (first, _) = await machine.known()
        assert first.taints[0].effect == "NoSchedule"
        before = await machine.generation()
        await asyncio.sleep(60)
        assert await machine.generation() == before
        machine.standing.clear()
        await asyncio.sleep(40)
        assert await machine.known() == TWO


async def test_a_device_that_does_not_answer_is_listed_as_lost(tmp_path: Path) -> None:
    async with Machine(tmp_path) as machine:
        await machine.nodes.register()
        machine.gpus = TWO[:1]
        machine.standing.append(GpuFault("GPU-1", LOST))
        await asyncio.sleep(40)
        assert [(gpu.uuid, [t.key for t in gpu.taints]) for gpu in await machine.known()] == [
            ("GPU-0", []),
            ("GPU-1", [LOST]),
        ]


async def test_a_config_of_the_device_plugin_shares_the_gpus(tmp_path: Path) -> None:
    async with Machine(tmp_path) as machine:
        await machine.nodes.register()
        text = "version: v1\nsharing: {timeSlicing: {renameByDefault: true, resources: [{name: nvidia.com/gpu, replicas: 4}]}}"
        await machine.cluster.patch(Node, "n", "", {"metadata": {"labels": {CONFIG_LABEL: "four"}}})
        await asyncio.sleep(5)
        assert any("there is none" in event for event in await machine.events())
        await machine.cluster.create(config_map("plugin", data={"four": text, "bad": "version: v2"}))
        await asyncio.sleep(5)
        node = await machine.node()
        assert node.status.allocatable["nvidia.com/gpu.shared"] == "8"
        assert "nvidia.com/gpu" not in node.status.allocatable
        assert node.metadata.labels["nvidia.com/gpu.replicas"] == "4"
        await machine.cluster.patch(Node, "n", "", {"metadata": {"labels": {CONFIG_LABEL: "bad"}}})
        await asyncio.sleep(5)
        assert (await machine.node()).status.allocatable["nvidia.com/gpu"] == "2"
        assert any("version: found 'v2', expected v1" in event for event in await machine.events())


async def test_pods_are_moved_off_a_device_that_failed_and_off_no_other(tmp_path: Path) -> None:
    async with Machine(tmp_path) as machine:
        await machine.nodes.register()
        brave = (Toleration(key="example.com/broken", operator="Exists"),)
        for name, tolerations in (("bad", ()), ("good", ()), ("brave", brave)):
            web = deployment(name, replicas=1)
            inner = replace(web.spec.template.spec, tolerations=tolerations)
            spec = replace(web.spec, template=replace(web.spec.template, spec=inner))
            await machine.cluster.create(replace(web, spec=spec))
        await asyncio.sleep(20)
        before = [pod for pod in await machine.pods() if is_active(pod)]
        assert len(before) == 3
        for pod in before:
            gpu = "GPU-0" if pod.metadata.name.startswith("good-") else "GPU-1"
            shares = msgspec.json.encode((Share(gpu=gpu, milli=1000),)).decode()
            held = {"metadata": {"annotations": {DEVICES_ANNOTATION: shares}}}
            await machine.patch(Pod, pod.metadata.name, held)
        taint = json.dumps([{"gpu": "1", "key": "example.com/broken", "effect": "NoExecute"}])
        await machine.cluster.patch(Node, "n", "", {"metadata": {"annotations": {TAINTS_ANNOTATION: taint}}})
        await asyncio.sleep(1)
        leaving = [pod for pod in await machine.pods() if not is_active(pod)]
        assert leaving
        assert all(pod.metadata.name.startswith("bad-") for pod in leaving)
        assert condition(leaving[0], "DisruptionTarget").reason == "DeletionByDeviceTaintManager"
        assert any(
            "moved off a device that failed: GPU 1 (GPU-1)" in event for event in await machine.events()
        )
