"""Nodes that ask for it get the MIG layouts that pods wait for; a GPU of which somebody holds a part stays as it is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, MigInstance, Share
from penstock.decide.device_slices import gpus_of
from penstock.decide.inventory import take_stock
from penstock.decide.mig_layout import lay_out
from penstock.decide.mig_parted import CONFIG_LABEL
from penstock.decide.mig_relayout import (
    STANDING,
    STATE_LABEL,
    Forecast,
    Standing,
    laid_out,
    plan_relayout,
    settled,
)
from penstock.host.mig_layouts import MigLayoutController
from penstock.host.node_devices import NodeDevices
from penstock.host.nodes import NodeController, NodeTemplate
from penstock.host.placement import PlacementController
from penstock.resources.core import Node
from penstock.resources.devices import ResourceSlice
from penstock.resources.pod import Container, Pod, ResourceRequirements
from penstock.testing.factories import meta, node, pod_spec
from penstock.testing.world import World, condition

TYPES = load_gpu_types()
A100 = find_gpu_type("a100-40gb")


def divided(index: int, counts: dict[str, int]) -> Gpu:
    places = lay_out(A100, counts) or ()
    parts = tuple(MigInstance(uuid=f"MIG-{index}-{s}", profile=p, start=s) for p, s in places)
    return Gpu(index=index, uuid=f"GPU-{index}", type=A100, is_mig=True, instances=parts)


class MigWorld(World):
    """A declared node with two A100s in seven parts each."""

    def __init__(self, home: Path) -> None:
        self.home = home
        gpus = tuple(divided(index, {"1g.5gb": 7}) for index in range(2))
        self.templates = [NodeTemplate(name="d", capacity={"cpu": "64", "memory": "256Gi"}, gpus=gpus)]
        super().__init__(self._nodes, self._placement, self._layouts)
        self.kubelet.places = False

    def _nodes(self, world: World) -> NodeController:
        parts = (world.cluster, world.cache, world.recorder.named("nodes"), world.clock)
        devices = NodeDevices(
            *parts,
            types=TYPES,
            local="n",
            discover=lambda: (),
            faults=self,
            plugin_config=("default", "plugin"),
        )
        self.nodes = NodeController(*parts, home=self.home, nodes=self.templates, devices=devices)
        return self.nodes

    def _placement(self, world: World) -> PlacementController:
        parts = (world.cluster, world.cache, world.recorder.named("placement"), world.clock)
        return PlacementController(*parts, gpu_types=TYPES)

    def _layouts(self, world: World) -> MigLayoutController:
        parts = (world.cluster, world.cache, world.recorder.named("mig-layouts"), world.clock)
        return MigLayoutController(*parts, declared=["d"], gpu_types=TYPES)

    def look(self) -> tuple[()]:
        return ()

    async def ask(self, value: str = "penstock") -> None:
        await self.cluster.patch(Node, "d", "", {"metadata": {"labels": {CONFIG_LABEL: value}}})

    async def run(self, name: str, profile: str) -> None:
        asks = ResourceRequirements(limits={f"nvidia.com/mig-{profile}": "1", "cpu": "1"})
        container = Container(name="main", image="x", command=("x",), resources=asks)
        await self.cluster.create(Pod(metadata=meta(name), spec=pod_spec(containers=(container,))))

    async def gpus(self) -> tuple[Gpu, ...]:
        return gpus_of((await self.cluster.list(ResourceSlice)).items, TYPES)["d"]

    async def running(self) -> list[str]:
        return sorted(pod.metadata.name for pod in await self.pods() if pod.spec.node_name)


@pytest.mark.looptime
async def test_pods_that_wait_get_their_instances_after_the_layout_changed(tmp_path: Path) -> None:
    async with MigWorld(tmp_path) as world:
        await world.nodes.register()
        await world.run("small", "1g.5gb")
        await asyncio.sleep(5)
        [held] = [gpu.uuid for gpu in await world.gpus() if gpu.uuid in str((await world.pods())[0])]
        before = {gpu.uuid: gpu.instances for gpu in await world.gpus()}
        for name in ("a", "b"):
            await world.run(name, "3g.20gb")
        await asyncio.sleep(60)
        assert await world.running() == ["small"], "nobody asked for layouts to be changed"
        await world.ask()
        await asyncio.sleep(60)
        assert await world.running() == ["a", "b", "small"]
        after = {gpu.uuid: gpu for gpu in await world.gpus()}
        assert after[held].instances == before[held]
        [other] = after.keys() - {held}
        assert [one.profile for one in after[other].instances].count("3g.20gb") == 2
        assert not after[other].taints
        found = await world.cluster.get(Node, "d")
        assert found.metadata.labels[STATE_LABEL] == "success"
        assert found.status.allocatable["nvidia.com/mig-3g.20gb"] == "2"
        assert condition(found, "GPUProblem").status == "False"
        assert not any("GPUUnhealthy" in event for event in await world.events())
        await asyncio.sleep(1200)
        assert {gpu.uuid: gpu.instances for gpu in await world.gpus()} == {
            u: g.instances for u, g in after.items()
        }


@pytest.mark.looptime
async def test_another_label_is_another_managers_business(tmp_path: Path) -> None:
    async with MigWorld(tmp_path) as world:
        await world.nodes.register()
        await world.ask("all-balanced")
        await world.run("a", "3g.20gb")
        await asyncio.sleep(120)
        assert await world.running() == []
        assert STANDING not in (await world.cluster.get(Node, "d")).metadata.annotations


def test_a_gpu_that_came_into_use_while_it_was_withheld_stays_as_it_is() -> None:
    wanted = {"GPU-0": (("3g.20gb", 0),), "GPU-1": (("3g.20gb", 0),)}
    after, taken = settled(Standing(pending=wanted), {"GPU-1"}, 50.0)
    assert taken == ("GPU-1",)
    assert after == Standing(applied={"GPU-0": wanted["GPU-0"]}, changed_at={"GPU-0": 50.0})
    text = json.dumps({"applied": wanted})
    laid = laid_out(
        replace(node("d"), metadata=replace(node("d").metadata, annotations={STANDING: text})),
        (divided(0, {"1g.5gb": 7}),),
    )
    assert [(one.profile, one.start) for one in laid[0].instances] == [("3g.20gb", 0)]


def test_what_was_wanted_lately_fades() -> None:
    seen = Forecast().seen({"3g.20gb": 4.0}, 0.0).seen({}, 3600.0)
    assert seen.levels == {"3g.20gb": 2.0}
    assert seen.seen({"3g.20gb": 3.0}, 3600.0).levels == {"3g.20gb": 3.0}


@settings(max_examples=60, deadline=None)
@given(
    held=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=8),
    demand=st.dictionaries(st.sampled_from(["1g.5gb", "2g.10gb", "3g.20gb", "7g.40gb"]), st.floats(0, 12)),
)
def test_a_gpu_in_use_is_never_touched(held: set[tuple[int, int]], demand: dict[str, float]) -> None:
    gpus = tuple(divided(index, {"1g.5gb": 7}) for index in range(4))
    pods = []
    for index, start in sorted(held):
        share = Share(gpu=f"GPU-{index}", profile="1g.5gb", start=start, instance=f"MIG-{index}-{start}")
        noted = {DEVICES_ANNOTATION: json.dumps([_plain(share)])}
        pods.append(Pod(metadata=meta(f"p{index}{start}", annotations=noted), spec=pod_spec(node_name="d")))
    stock = take_stock([node("d", cpu="64")], pods, {"d": gpus})
    plan = plan_relayout(stock, {"d"}, demand, Standing(), 0.0)
    assert {one.gpu for one in plan.changes}.isdisjoint(f"GPU-{index}" for index, _ in held)
    assert not plan_relayout(stock, (), demand, Standing(), 0.0).changes, "only nodes that ask"


def _plain(share: Share) -> dict[str, object]:
    return {"gpu": share.gpu, "profile": share.profile, "start": share.start, "instance": share.instance}
