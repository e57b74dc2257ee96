"""Nodes' caches on a real disk, and placement by what is in them; the kubelet is pretended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from penstock.host import load_times
from penstock.host.kubelet.layout import Layout
from penstock.host.load_times import LoadTimes
from penstock.host.model_store import FILES, PROGRESS, RECORD, Entry, ModelStore, Progress, Record, write
from penstock.host.placement import PlacementController
from penstock.kit import page_cache
from penstock.resources.caching import LocalModelCache, LocalModelCacheSpec
from penstock.resources.core import Event, Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements
from penstock.testing.world import World

pytestmark = pytest.mark.looptime
M = "hf://o/m"
MB = 1_000_000


def put(layout: Layout, node: str, size: int, *, took_s: float = 1.0, is_from_peer: bool = False) -> Path:
    """The model, whole, of one file."""
    tree = ModelStore(layout.cache(node)).model(M) / "snapshot"
    (tree / FILES).mkdir(parents=True)
    (tree / FILES / "weights").write_bytes(bytes(size))
    write(tree / RECORD, Record(M, {"weights": Entry(size, "blake3", "0")}, took_s, is_from_peer))
    return tree / FILES / "weights"


class Disks(World):
    """Nodes a, b and c, each with a cache of its own."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        super().__init__(self._placement)
        self.kubelet.places = False

    def _placement(self, world: World) -> PlacementController:
        parts = (world.cluster, world.cache, world.recorder.named("placement"), world.clock)
        self.loads = LoadTimes(world.cache, world.clock, layout=self.layout, nodes=("a", "b", "c"))
        return PlacementController(*parts, loads=self.loads)

    async def __aenter__(self) -> Disks:
        for name in ("a", "b", "c"):
            status = NodeStatus(
                allocatable={"cpu": "16", "memory": "64Gi", "pods": "110"},
                conditions=(Condition(type="Ready", status="True"),),
            )
            await self.cluster.create(Node(metadata=ObjectMeta(name=name), status=status))
        await super().__aenter__()
        return self

    async def pod(self, name: str, *models: str) -> tuple[str, str]:
        """Its node, and what the Event says of why."""
        limits = ResourceRequirements(limits={"cpu": "1"})
        fetch = Container(
            name="storage-initializer", args=tuple(part for uri in models for part in (uri, "/mnt"))
        )
        spec = PodSpec(
            containers=(Container(name="main", image="x", resources=limits),),
            init_containers=(fetch,) if models else (),
        )
        await self.cluster.create(Pod(metadata=ObjectMeta(name=name, namespace="default"), spec=spec))
        await asyncio.sleep(2)
        pod = await self.cluster.get(Pod, name, "default")
        said = [e for e in (await self.cluster.list(Event)).items if e.involved_object.name == name]
        return pod.spec.node_name, said[-1].message


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


async def test_a_pod_goes_where_its_weights_are_and_the_event_says_so(layout: Layout) -> None:
    put(layout, "b", 40 * MB, took_s=40.0, is_from_peer=True)
    async with Disks(layout) as disks:
        for name in ("p", "q", "r"):
            node, why = await disks.pod(name, M)
            assert node == "b"
            assert "its weights are there, in memory)" in why


async def test_where_none_has_it_seconds_are_told_by_the_rates_of_earlier_downloads(layout: Layout) -> None:
    put(layout, "a", 8 * MB, took_s=8.0)
    async with Disks(layout) as disks:
        spec = LocalModelCacheSpec(source_model_uri="hf://o/n", model_size="41M", node_groups=("g",))
        await disks.cluster.create(LocalModelCache(metadata=ObjectMeta(name="n"), spec=spec))
        _, why = await disks.pod("p", "hf://o/n")
        assert "41 s to bring and load its weights" in why


async def test_what_has_arrived_counts_and_another_nodes_copy_comes_faster(layout: Layout) -> None:
    put(layout, "a", 8 * MB, took_s=8.0)
    half = ModelStore(layout.cache("b")).model(M)
    half.mkdir(parents=True)
    write(half / PROGRESS, Progress(uri=M, state="downloading", bytes_done=4 * MB, bytes_total=8 * MB))
    async with Disks(layout) as disks:
        times = await disks.loads.of(frozenset((M,)))
        assert times["a"].bring_s == 0
        assert 0 < times["b"].bring_s < times["c"].bring_s < 1


async def test_pods_without_models_and_models_of_unknown_size_are_placed_as_ever(layout: Layout) -> None:
    async with Disks(layout) as disks:
        _, why = await disks.pod("p")
        assert why.endswith("(least loaded of 3 fitting nodes)")
        _, why = await disks.pod("q", "hf://o/unknown")
        assert why.endswith("(least loaded of 3 fitting nodes)")


async def test_a_disk_that_cannot_be_read_keeps_no_pod_from_its_node(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(store: ModelStore) -> tuple[str, ...]:
        raise PermissionError

    monkeypatch.setattr(ModelStore, "model_keys", broken)
    async with Disks(layout) as disks:
        node, why = await disks.pod("p", M)
        assert node
        assert why.endswith("(least loaded of 3 fitting nodes)")


async def test_what_is_on_the_disk_alone_takes_the_time_of_reading_it(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(layout, "a", 8 * MB)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    monkeypatch.setattr(page_cache, "resident_share", lambda _: 0.0)
    monkeypatch.setattr(load_times, "read_rate", lambda _: 1.0 * MB)
    async with Disks(layout) as disks:
        times = await disks.loads.of(frozenset((M,)))
        assert times["a"].read_s == pytest.approx(8.0)
        again = await disks.loads.of(frozenset((M,)))
        assert again is times, "disks are not looked at each time"
