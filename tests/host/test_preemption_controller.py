"""A pod that fits nowhere gets room: the cheapest job is told, saves or not, ends, and what was lost is in the ledger."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from penstock.decide.gang import GANG, GANG_SIZE
from penstock.host.checkpoints import CheckpointController
from penstock.host.jobs import JobController
from penstock.host.kubelet.layout import Layout
from penstock.host.placement import PlacementController
from penstock.host.preemption import PreemptionController
from penstock.host.preemption_ledger import PreemptionLedger, history_of
from penstock.resources.checkpoint import CHECKPOINT, MANIFEST, MINIMUM_RUNTIME, NOTICE
from penstock.resources.core import PriorityClass
from penstock.resources.meta import Labels, ObjectMeta
from penstock.resources.pod import (
    Container,
    PersistentVolumeClaimVolumeSource,
    Pod,
    PodSpec,
    PodTemplateSpec,
    ResourceRequirements,
    Volume,
    VolumeMount,
)
from penstock.resources.workload import Job, JobSpec
from penstock.testing.factories import meta, node
from penstock.testing.world import World, is_active

pytestmark = pytest.mark.looptime


class GpuWorld(World):
    """One node with four GPUs. Pods take 20 s to end, unless they have saved; a job's claim is named as it is."""

    def __init__(self, home: Path) -> None:
        layout = Layout(home)
        self.home = home
        super().__init__(
            lambda w: JobController(w.cluster, w.cache, w.recorder.named("job"), w.clock),
            self.placement,
            lambda w: CheckpointController(
                w.cluster, w.cache, w.recorder.named("checkpoints"), layout=layout
            ),
            lambda w: self.preemption(w, layout),
        )
        self.kubelet.places = False
        self.kubelet.start_s, self.kubelet.stop_s = 1.0, 20.0

    def placement(self, world: World) -> PlacementController:
        return PlacementController(world.cluster, world.cache, world.recorder.named("placement"), world.clock)

    def preemption(self, world: World, layout: Layout) -> PreemptionController:
        parts = (world.cluster, world.cache, world.recorder.named("preemption"), world.clock)
        return PreemptionController(*parts, layout=layout)

    async def prepared(self) -> None:
        await self.cluster.create(node("n1", **{"nvidia.com/gpu": "4", "cpu": "64"}))
        await self.cluster.create(PriorityClass(metadata=ObjectMeta(name="inference"), value=900_000))
        await self.cluster.create(
            PriorityClass(metadata=ObjectMeta(name="training"), value=1000, preemption_policy="Never")
        )

    async def train(self, name: str, gpus: int = 1, pods: int = 1, **annotations: str) -> None:
        noted = {CHECKPOINT: "/data", **{key.replace("__", "/"): value for key, value in annotations.items()}}
        await self.cluster.create(
            Job(
                metadata=meta(name),
                spec=JobSpec(
                    parallelism=pods,
                    completions=pods,
                    template=PodTemplateSpec(metadata=ObjectMeta(annotations=noted), spec=spec(name, gpus)),
                ),
            )
        )

    async def serve(self, name: str, gpus: int, priority: str = "inference") -> None:
        container = Container(name="main", image="x", command=("x",), resources=asks(gpus))
        await self.cluster.create(
            Pod(metadata=meta(name), spec=PodSpec(containers=(container,), priority_class_name=priority))
        )

    async def gang(self, name: str, size: int, gpus: int) -> None:
        for rank in range(size):
            container = Container(name="main", image="x", command=("x",), resources=asks(gpus))
            noted = {GANG: name, GANG_SIZE: str(size)}
            await self.cluster.create(
                Pod(
                    metadata=meta(f"{name}-{rank}", annotations=noted),
                    spec=PodSpec(containers=(container,), priority_class_name="inference"),
                )
            )

    def save(self, name: str, step: int) -> None:
        """As the job would, now."""
        folder = Layout(self.home).claim("default", name)
        folder.mkdir(parents=True, exist_ok=True)
        content = f"{name} {step}".encode()
        (folder / "state").write_bytes(content)
        manifest = {
            "path": "state",
            "step": step,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        (folder / MANIFEST).write_text(json.dumps(manifest))
        os.utime(folder / MANIFEST, (self.clock.now(), self.clock.now()))

    async def of(self, name: str) -> list[Pod]:
        return [pod for pod in await self.pods() if pod.metadata.name.startswith(name)]

    async def active(self, name: str) -> list[str]:
        return [pod.spec.node_name for pod in await self.of(name) if is_active(pod)]

    async def job(self, name: str) -> Job:
        return await self.cluster.get(Job, name, "default")


def asks(gpus: int) -> ResourceRequirements:
    return ResourceRequirements(limits={"nvidia.com/gpu": str(gpus), "cpu": "1"})


def spec(name: str, gpus: int, labels: Labels | None = None) -> PodSpec:
    container = Container(
        name="main",
        image="x",
        command=("x",),
        resources=asks(gpus),
        volume_mounts=(VolumeMount(name="data", mount_path="/data"),),
    )
    claim = PersistentVolumeClaimVolumeSource(claim_name=name)
    return PodSpec(
        containers=(container,),
        restart_policy="Never",
        priority_class_name="training",
        termination_grace_period_seconds=30,
        volumes=(Volume(name="data", persistent_volume_claim=claim),),
    )


def reasons(events: list[str], *wanted: str) -> list[str]:
    return [event for event in events if event.split(":")[0] in wanted]


async def ledger(world: World) -> Any:
    return await PreemptionLedger(world.cluster).read()


async def test_a_job_that_saves_when_told_loses_next_to_nothing_and_goes_on(tmp_path: Path) -> None:
    async with GpuWorld(tmp_path) as world:
        await world.prepared()
        await world.train("a", gpus=4)
        await asyncio.sleep(600)
        world.save("a", 10)
        await asyncio.sleep(300)
        assert await world.active("a") == ["n1"]
        await world.serve("chat", gpus=2)
        await asyncio.sleep(3)
        [told] = await world.of("a")
        assert json.loads(told.metadata.annotations[NOTICE])["by"] == "default/chat"
        assert any(c.type == "DisruptionTarget" and c.status == "True" for c in told.status.conditions)
        [waiting] = await world.of("chat")
        assert waiting.status.nominated_node_name == "n1"
        world.save("a", 11)
        await asyncio.sleep(40)
        assert await world.active("chat") == ["n1"]
        assert await world.active("a") == [""], "a successor waits"
        job = await world.job("a")
        assert job.status.failed == 0
        assert history_of(job).count == 1
        [entry] = (await ledger(world)).entries
        assert (entry.outcome, entry.step, entry.by, entry.gpus) == ("Saved", 11, "default/chat", 4)
        assert entry.lost_gpu_seconds <= 4 * 25
        events = await world.events()
        assert reasons(events, "Preempting", "Preempted", "Saved", "GaveWay")
        await world.cluster.delete(Pod, "chat", "default")
        await asyncio.sleep(30)
        assert await world.active("a") == ["n1"], "it goes on where there is room"


async def test_a_job_that_ignores_its_notice_ends_at_its_deadline_and_the_ledger_says_so(
    tmp_path: Path,
) -> None:
    async with GpuWorld(tmp_path) as world:
        await world.prepared()
        await world.train("a", gpus=4)
        await asyncio.sleep(100)
        world.save("a", 10)
        await asyncio.sleep(400)
        await world.serve("chat", gpus=1)
        await asyncio.sleep(60)
        assert await world.active("chat") == ["n1"]
        [entry] = (await ledger(world)).entries
        assert entry.outcome == "Ignored"
        assert 4 * 400 <= entry.lost_gpu_seconds <= 4 * 440
        assert history_of(await world.job("a")).ignored == 1


async def test_a_gang_gives_way_as_one_and_counts_once(tmp_path: Path) -> None:
    async with GpuWorld(tmp_path) as world:
        await world.prepared()
        await world.train("gang", gpus=2, pods=2)
        await asyncio.sleep(100)
        world.save("gang", 1)
        await asyncio.sleep(20)
        await world.serve("chat", gpus=1)
        await asyncio.sleep(2)
        assert await world.active("gang") == []
        await asyncio.sleep(60)
        assert len((await ledger(world)).entries) == 2
        assert history_of(await world.job("gang")).count == 1


async def test_who_has_just_saved_gives_way_and_no_more_than_needed(tmp_path: Path) -> None:
    async with GpuWorld(tmp_path) as world:
        await world.prepared()
        for name in ("a", "b", "c", "d"):
            await world.train(name, **{"penstock.dev/checkpoint-on-demand": "false"})
        await asyncio.sleep(100)
        for number, name in enumerate("bcda"):
            world.save(name, number)
            await asyncio.sleep(100)
        await world.serve("chat", gpus=1)
        await asyncio.sleep(60)
        assert [entry.victim.split("-")[0] for entry in (await ledger(world)).entries] == ["default/a"]
        assert await world.active("b") == ["n1"]


async def test_nobody_gives_way_to_a_pod_of_the_same_priority_or_before_its_time(tmp_path: Path) -> None:
    async with GpuWorld(tmp_path) as world:
        await world.prepared()
        await world.train("a", gpus=4, **{MINIMUM_RUNTIME: "10m"})
        await asyncio.sleep(60)
        await world.serve("other", gpus=1, priority="training")
        await world.serve("chat", gpus=1)
        await asyncio.sleep(60)
        assert await world.active("a") == ["n1"]
        assert any("have not run for their least time yet" in event for event in await world.events())
        await asyncio.sleep(600)
        assert await world.active("chat") == ["n1"]
        assert await world.active("other") == [""] or await world.active("other") == ["n1"]


async def test_a_storm_is_bounded_and_everybody_gets_room_in_the_end(tmp_path: Path) -> None:
    async with GpuWorld(tmp_path) as world:
        await world.prepared()
        for number in range(2, 5):
            await world.cluster.create(node(f"n{number}", **{"nvidia.com/gpu": "4", "cpu": "64"}))
        for number in range(16):
            await world.train(f"t{number}")
        await asyncio.sleep(100)
        for number in range(12):
            await world.serve(f"chat{number}", gpus=1)
        await asyncio.sleep(5)
        ending = [pod for pod in await world.pods() if pod.metadata.deletion_timestamp]
        assert len(ending) == 8
        await asyncio.sleep(120)
        assert [pod.spec.node_name for pod in await world.of("chat") if not pod.spec.node_name] == []
        assert len((await ledger(world)).entries) == 12


async def test_what_was_begun_is_finished_after_a_restart(tmp_path: Path) -> None:
    async with GpuWorld(tmp_path) as world:
        await world.prepared()
        await world.train("a", gpus=4)
        await asyncio.sleep(100)
        [pod] = await world.of("a")
        notice = json.dumps(
            {"deadline": world.clock.now() + 30, "reason": "Preempted", "by": "default/x", "at": 1.0}
        )
        kept = [*pod.metadata.finalizers, "penstock.dev/preemption"]
        await world.patch(
            Pod, pod.metadata.name, {"metadata": {"annotations": {NOTICE: notice}, "finalizers": kept}}
        )
        await asyncio.sleep(60)
        assert len((await ledger(world)).entries) == 1
        assert pod.metadata.name not in [other.metadata.name for other in await world.of("a")]


async def test_an_entry_is_entered_once(tmp_path: Path) -> None:
    async with GpuWorld(tmp_path) as world:
        await world.prepared()
        await world.train("a", gpus=4)
        await asyncio.sleep(100)
        await world.serve("chat", gpus=1)
        await asyncio.sleep(60)
        before = await ledger(world)
        [entry] = before.entries
        await PreemptionLedger(world.cluster).enter(entry, "a")
        assert await ledger(world) == before
        newer = replace(entry, at=entry.at + 1)
        await PreemptionLedger(world.cluster).enter(newer, "a")
        assert (await ledger(world)).totals.preempted_pods == {"Ignored": 2}


async def test_nobody_gives_way_to_a_gang_that_would_still_lack_room(tmp_path: Path) -> None:
    async with GpuWorld(tmp_path) as world:
        await world.prepared()
        for name in ("a", "b"):
            await world.train(name, gpus=2)
        await asyncio.sleep(100)
        await world.gang("big", size=3, gpus=2)
        await asyncio.sleep(100)
        assert (await ledger(world)).entries == ()
        assert await world.active("a") == ["n1"]
        await world.cluster.create(node("n2", **{"nvidia.com/gpu": "2", "cpu": "64"}))
        await asyncio.sleep(100)
        assert sorted(await world.active("big")) == ["n1", "n1", "n2"]
        assert len((await ledger(world)).entries) == 2


async def test_a_restart_does_not_set_the_counters_back(tmp_path: Path) -> None:
    async with GpuWorld(tmp_path) as world:
        await world.prepared()
        await world.train("a", gpus=4)
        await asyncio.sleep(100)
        await world.serve("chat", gpus=1)
        await asyncio.sleep(60)
        [entry] = (await ledger(world)).entries

        def counted() -> tuple[float, float]:
            labels = {"outcome": entry.outcome}
            names = ("penstock_preempted_pods_total", "penstock_preemption_lost_gpu_seconds_total")
            pods, lost = (REGISTRY.get_sample_value(name, labels) or 0.0 for name in names)
            return pods, lost

        before = counted()
        restarted = PreemptionLedger(world.cluster)  # in a process of its own it would count from nothing
        await restarted.begin()
        await restarted.begin()
        assert counted() == (before[0] + 1, pytest.approx(before[1] + entry.lost_gpu_seconds))
