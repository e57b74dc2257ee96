"""What real processes consume, found as the kubelet keeps them; and the sampler that looks again and again."""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.contracts.controller import Key
from penstock.host.kubelet.attempts import ProcessSpec, start
from penstock.host.kubelet.layout import Layout, PodFolder
from penstock.host.metrics.gpus import GpuLoad
from penstock.host.metrics.processes import Consumption, Processes
from penstock.host.metrics.sampler import UsageSampler, reading_processes
from penstock.resources.workload import Deployment
from penstock.testing.factories import deployment
from penstock.testing.world import World

BURN = "import os, time\nos.fork()\nhold = bytearray(32 << 20)\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass\ntime.sleep(600)"
LOOK_S = 0.05


@pytest.mark.e2e
async def test_cpu_time_and_memory_of_all_processes_of_a_container_are_counted(tmp_path: Path) -> None:
    folder, processes = PodFolder(tmp_path / "pod"), Processes()
    spec = ProcessSpec((sys.executable, "-S", "-c", BURN), {}, tmp_path)
    attempt = await start(folder.container("main"), 0, spec)
    try:
        async with asyncio.timeout(50):
            while True:
                seen = await asyncio.to_thread(processes.consumption, folder)
                if "main" in seen and seen["main"].cpu_s >= 0.8:
                    break
                await asyncio.sleep(LOOK_S)
        # Two processes with 0.4 s of CPU and 32 MiB each.
        assert seen["main"].cpu_s < 3
        assert seen["main"].memory_bytes > 64 << 20
        assert len(seen["main"].pids) == 2
        again = await asyncio.to_thread(processes.consumption, folder)
        assert again["main"].run == seen["main"].run
        assert again["main"].cpu_s >= seen["main"].cpu_s
    finally:
        await attempt.kill()
    assert processes.consumption(folder) == {}


@pytest.mark.e2e
async def test_a_container_that_started_since_the_last_look_is_found_at_once(tmp_path: Path) -> None:
    processes = Processes()
    spec = ProcessSpec((str(shutil.which("sleep")), "600"), {}, tmp_path)
    running = []
    try:
        for name in ("first", "second"):
            folder = PodFolder(tmp_path / name)
            running.append(await start(folder.container("main"), 0, spec))
            assert "main" in await asyncio.to_thread(processes.consumption, folder)
    finally:
        for attempt in running:
            await attempt.kill()


def test_a_pod_without_a_folder_consumes_nothing(tmp_path: Path) -> None:
    assert Processes().consumption(PodFolder(tmp_path / "absent")) == {}


class NoGpus:
    def read(self) -> tuple[GpuLoad, ...]:
        return ()


async def test_processes_and_gpus_are_looked_at_in_a_thread(tmp_path: Path) -> None:
    assert await reading_processes(NoGpus())(PodFolder(tmp_path)) == ({}, ())


@pytest.mark.looptime
async def test_a_running_pod_is_looked_at_again_and_again_until_it_is_gone(tmp_path: Path) -> None:
    made: list[UsageSampler] = []

    def sampler(world: World) -> UsageSampler:
        made.append(UsageSampler(world.cache, world.clock, layout=Layout(tmp_path), read=read))
        return made[0]

    looks: list[str] = []
    state: dict[str, Any] = {"run": "0", "cpu_s": 0.0}

    async def read(folder: PodFolder) -> tuple[dict[str, Consumption], tuple[GpuLoad, ...]]:
        looks.append(folder.path.name)
        state["cpu_s"] += 2.5 if len(looks) <= 2 else 7.5
        return {"main": Consumption(state["run"], state["cpu_s"], 5 << 20, frozenset({1}))}, ()

    async with World(sampler) as world:
        await world.cluster.create(deployment("web", replicas=1))
        await asyncio.sleep(8)
        (pod,) = await world.pods()
        assert looks == [pod.metadata.uid]
        assert made[0].of(pod) == {}
        await asyncio.sleep(3)
        first = made[0].of(pod)["main"]
        assert (first.window_s, first.amounts) == (5, {"cpu": 0.5, "memory": float(5 << 20)})
        await asyncio.sleep(20)
        second = made[0].of(pod)["main"]
        assert second.at % 15 == 0
        assert second.amounts["cpu"] == pytest.approx(7.5 / second.window_s)
        state["run"] = "1"
        await asyncio.sleep(15)
        assert made[0].of(pod) == {}
        await world.patch(Deployment, "web", {"spec": {"replicas": 0}})
        await asyncio.sleep(10)
        count = len(looks)
        await asyncio.sleep(60)
        assert len(looks) == count
        assert await made[0].reconcile(Key("default", pod.metadata.name)) is None
