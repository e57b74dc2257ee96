"""Pods move so that another gets room: a server's successor serves before it goes, training saves first, and whoever is killed goes on where it was."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY
from test_preemption_controller import GpuWorld, asks, reasons

from penstock.app.gpu_types import load_gpu_types
from penstock.contracts.controller import Controller, Key, Watch
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu
from penstock.decide.device_slices import slices_of
from penstock.decide.move_budget import Limits
from penstock.decide.scale_in import DRAINING
from penstock.host.checkpoints import CheckpointController
from penstock.host.defragmentation import DefragmentationController, Mode, Rule
from penstock.host.jobs import JobController
from penstock.host.kubelet.layout import Layout
from penstock.host.move_ledger import MoveLedger
from penstock.host.placement import PlacementController
from penstock.host.preemption import PreemptionController
from penstock.host.preemption_ledger import PreemptionLedger, history_of
from penstock.resources.core import Node, PriorityClass
from penstock.resources.meta import ObjectMeta
from penstock.resources.moving import MOVE
from penstock.resources.pod import Container, Pod
from penstock.resources.workload import Job
from penstock.testing.factories import deployment, node
from penstock.testing.world import World, is_active, is_ready

pytestmark = pytest.mark.looptime
TYPES = load_gpu_types()
H100 = next(one for one in TYPES if one.name == "h100-80gb")


class Restartable:
    """A controller that can be killed at any moment and begun anew with nothing in its memory."""

    name = "defragmentation"

    def __init__(self, make: Any) -> None:
        self._make = make
        self._inner: Controller | None = make()

    def watches(self) -> tuple[Watch, ...]:
        found: tuple[Watch, ...] = self._make().watches()
        return found

    async def reconcile(self, key: Key) -> float | None:
        return 1.0 if self._inner is None else await self._inner.reconcile(key)

    def kill(self) -> None:
        self._inner = None

    def begin(self) -> None:
        self._inner = self._make()


class MoveWorld(GpuWorld):
    """Two nodes with two H100s each."""

    def __init__(self, home: Path, mode: Mode = "for-waiting", moves: int = 4) -> None:
        layout = Layout(home)
        self.home = home
        self.streams: int | None = 0

        def parts(world: World, name: str) -> Any:
            return world.cluster, world.cache, world.recorder.named(name), world.clock

        def defragmentation(world: World) -> Controller:
            rule = Rule(mode, Limits(moves=moves, gpu_seconds=600.0))

            def make() -> Controller:
                own = parts(world, "defragmentation")
                return DefragmentationController(
                    *own, rule=rule, streams=lambda _: self.streams, gpu_types=TYPES
                )

            self.controller = Restartable(make)
            return self.controller

        World.__init__(
            self,
            lambda w: JobController(*parts(w, "job")),
            lambda w: PlacementController(*parts(w, "placement"), gpu_types=TYPES),
            lambda w: CheckpointController(*parts(w, "checkpoints")[:3], layout=layout),
            lambda w: PreemptionController(*parts(w, "preemption"), layout=layout, gpu_types=TYPES),
            defragmentation,
        )
        self.kubelet.places = False
        self.kubelet.start_s, self.kubelet.stop_s = 10.0, 5.0

    async def prepared(self) -> None:
        """`chat` runs on `a` and `embed` on `b`, for a while: each node has one GPU left."""
        for name in "ab":
            await self.cluster.create(node(name, cpu="64", **{"nvidia.com/gpu": "2"}))
            for one in slices_of(name, [Gpu(index=i, uuid=f"{name}{i}", type=H100) for i in range(2)]):
                await self.cluster.create(one)
        for name, value in (("inference", 900_000), ("training", 1000)):
            own = PriorityClass(metadata=ObjectMeta(name=name), value=value, preemption_policy="Never")
            await self.cluster.create(own)

    async def open(self, *names: str) -> None:
        """Only these nodes take new pods."""
        for name in "ab":
            await self.cluster.patch(Node, name, "", {"spec": {"unschedulable": name not in names}})

    async def split(self) -> None:
        await self.prepared()
        for name, on in (("chat", "a"), ("embed", "b")):
            await self.open(on)
            await self.deploy(name)
            await asyncio.sleep(30)
        await self.open("a", "b")
        await asyncio.sleep(700)

    async def deploy(self, name: str) -> None:
        container = Container(name="main", image="x", command=("x",), resources=asks(1))
        made = deployment(name)
        spec = replace(made.spec.template.spec, containers=(container,))
        template = replace(made.spec.template, spec=spec)
        await self.cluster.create(replace(made, spec=replace(made.spec, template=template)))

    async def served(self, name: str) -> list[Pod]:
        """The ready pods that get requests."""
        return [
            pod
            for pod in await self.of(name)
            if is_active(pod) and is_ready(pod) and DRAINING not in pod.metadata.annotations
        ]

    async def settled(self) -> None:
        """Everybody has one pod, nobody shares a GPU, and no mark is left."""
        pods = [pod for pod in await self.pods() if is_active(pod)]
        assert sorted(pod.metadata.name.split("-")[0] for pod in pods) == ["big", "chat", "embed"]
        held = [
            s["gpu"]
            for pod in pods
            for s in json.loads(pod.metadata.annotations.get(DEVICES_ANNOTATION, "[]"))
        ]
        assert len(held) == len(set(held))
        assert not any({MOVE, DRAINING} & pod.metadata.annotations.keys() for pod in pods)


async def watch_service(world: MoveWorld, seconds: float) -> None:
    """At no moment one of the two has nobody who takes requests."""
    for _ in range(int(seconds * 2)):
        await asyncio.sleep(0.5)
        for name in ("chat", "embed"):
            assert await world.served(name), f"nobody serves {name}"


async def test_a_servers_successor_serves_before_it_goes_and_who_waits_gets_its_room(tmp_path: Path) -> None:
    async with MoveWorld(tmp_path) as world:
        await world.split()
        before = REGISTRY.get_sample_value("penstock_defragmentation_won_gpus_total") or 0.0
        await world.serve("big", gpus=2)
        await watch_service(world, 120)
        await world.settled()
        [big] = await world.of("big")
        assert big.spec.node_name in ("a", "b")
        events = await world.events()
        assert [e for e in events if e.startswith("Moving: Moves to node") and "default/big gets room" in e]
        assert reasons(events, "Moved") == ["Moved: 1 other pods serve in its place"]
        assert REGISTRY.get_sample_value("penstock_defragmentation_won_gpus_total") == before + 2
        [spent] = await MoveLedger(world.cluster).read()
        assert len(spent.pods) == 1
        assert spent.gpu_seconds == pytest.approx(10)


async def test_what_is_under_way_at_a_pod_is_let_end_first(tmp_path: Path) -> None:
    async with MoveWorld(tmp_path) as world:
        await world.split()
        world.streams = 3
        await world.serve("big", gpus=2)
        await watch_service(world, 300)
        [draining] = [p for p in await world.pods() if DRAINING in p.metadata.annotations and is_active(p)]
        assert is_ready(draining)
        world.streams = 0
        await watch_service(world, 30)
        await world.settled()


async def test_nothing_begins_where_nobody_asked_for_it_and_the_hours_budget_holds(tmp_path: Path) -> None:
    for mode, moves in (("never", 4), ("for-waiting", 0)):
        async with MoveWorld(tmp_path, mode, moves) as world:  # type: ignore[arg-type]
            await world.split()
            await world.serve("big", gpus=2)
            await asyncio.sleep(300)
            assert await world.active("big") == [""]
            assert not await MoveLedger(world.cluster).read()


@pytest.mark.parametrize("after_s", [1, 4, 8, 11, 12, 13, 14, 16, 18, 20])
async def test_a_controller_that_is_killed_loses_nothing_and_doubles_nothing(
    tmp_path: Path, after_s: int
) -> None:
    async with MoveWorld(tmp_path) as world:
        await world.split()
        await world.serve("big", gpus=2)
        while not any(MOVE in pod.metadata.annotations for pod in await world.pods()):
            await watch_service(world, 0.5)
        await watch_service(world, after_s)
        world.controller.kill()
        await watch_service(world, 40)
        world.controller.begin()
        await watch_service(world, 60)
        await world.settled()


async def test_where_nobody_comes_back_nothing_stays_doubled(tmp_path: Path) -> None:
    async with MoveWorld(tmp_path) as world:
        await world.split()
        world.kubelet.start_s = 5000.0
        await world.serve("big", gpus=2)
        while len([pod for pod in await world.pods() if is_active(pod)]) < 4:
            await watch_service(world, 0.5)
        world.controller.kill()
        await watch_service(world, 1000)
        assert [len(await world.active(name)) for name in ("chat", "embed")] == [1, 1]


async def test_a_successor_that_does_not_get_ready_is_given_up(tmp_path: Path) -> None:
    async with MoveWorld(tmp_path) as world:
        await world.split()
        world.kubelet.start_s = 5000.0
        await world.serve("big", gpus=2)
        await watch_service(world, 2000)
        told = reasons(await world.events(), "MoveCancelled")
        assert told == ["MoveCancelled: It stays: nothing took its place in time"] * 2, "each was tried once"
        for name in ("chat", "embed"):
            [pod] = [pod for pod in await world.of(name) if is_active(pod)]
            assert is_ready(pod)


async def test_training_saves_goes_and_goes_on_elsewhere(tmp_path: Path) -> None:
    async with MoveWorld(tmp_path) as world:
        await world.prepared()
        await world.open("a")
        await world.train("left")
        await asyncio.sleep(20)
        await world.open("b")
        await world.train("right")
        await asyncio.sleep(20)
        await world.open("a", "b")
        await asyncio.sleep(700)
        for name in ("left", "right"):
            world.save(name, 7)
        await asyncio.sleep(60)
        await world.serve("big", gpus=2, priority="training")
        for _ in range(120):
            await asyncio.sleep(1)
            for pod in await world.pods():
                if pod.metadata.deletion_timestamp:
                    world.save(pod.metadata.name.split("-")[0], 8)
        assert len(await world.active("big")) == 1
        assert "" not in [
            *await world.active("big"),
            *await world.active("left"),
            *await world.active("right"),
        ]
        [entry] = (await PreemptionLedger(world.cluster).read()).entries
        assert (entry.outcome, entry.by, entry.step) == ("Saved", "default/big", 8)
        moved = await world.cluster.get(Job, entry.victim.removeprefix("default/").split("-")[0], "default")
        assert (history_of(moved).count, moved.status.failed) == (1, 0)
