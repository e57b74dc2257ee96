"""Weights stay in memory for whoever was promised that, and starts say whether they were there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from penstock.decide.cold_start import RESIDENT
from penstock.decide.storage import VOLUME
from penstock.host.kubelet.layout import Layout
from penstock.host.weights import WeightKeeper
from penstock.kit.page_cache import let_go, resident_share
from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.meta import Condition
from penstock.resources.pod import Pod, PodStatus
from penstock.resources.pod_autoscaler import (
    PodAutoscaler,
    PodAutoscalerSpec,
    PodAutoscalerStatus,
    SleepStatus,
)
from penstock.testing.factories import meta, pod
from penstock.testing.world import World

REVISION = "iris-predictor-00001"


class WeightWorld(World):
    """A revision with a pod whose model is a file of some megabytes; the kubelet does nothing by itself."""

    def __init__(self, home: Path) -> None:
        self.layout = Layout(home)
        self.file = home / "weights.bin"

        def keeper(world: World) -> WeightKeeper:
            self.keeper = WeightKeeper(world.cluster, world.cache, layout=self.layout)
            return self.keeper

        super().__init__(keeper)
        self.kubelet.start_s = 1e9

    async def __aenter__(self) -> WeightWorld:
        self.file.write_bytes(os.urandom(1 << 20) * 8)
        await super().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        self.keeper.close()

    def share(self) -> float | None:
        fd = os.open(self.file, os.O_RDONLY)
        try:
            return resident_share(fd)
        finally:
            os.close(fd)

    def forget(self) -> None:
        """As if the machine had needed the memory for something else."""
        fd = os.open(self.file, os.O_RDONLY)
        os.fsync(fd)
        let_go(fd)
        os.close(fd)
        if self.share():
            pytest.skip("this disk keeps its files in memory")

    async def starting(self) -> Pod:
        made = await self.cluster.create(pod("p", node="n", labels={"penstock.dev/revision": REVISION}))
        volume = self.layout.pod("n", made.metadata.uid).volumes / VOLUME
        volume.mkdir(parents=True)
        (volume / "model.bin").symlink_to(self.file)
        return await self.becomes(made, Initialized="True")

    async def becomes(self, one: Pod, **conditions: str) -> Pod:
        status = PodStatus(
            phase="Running",
            conditions=tuple(Condition(type=kind, status=value) for kind, value in conditions.items()),
        )
        known = await self.cluster.get(Pod, one.metadata.name, "default")
        return await self.cluster.replace(msgspec.structs.replace(known, status=status), subresource="status")

    async def scaler(self, depth: str) -> None:
        target = CrossVersionObjectReference(kind="Deployment", name=REVISION)
        made = await self.cluster.create(
            PodAutoscaler(metadata=meta(REVISION), spec=PodAutoscalerSpec(scale_target_ref=target))
        )
        status = PodAutoscalerStatus(sleep=SleepStatus(depth=depth))
        await self.cluster.replace(msgspec.structs.replace(made, status=status), subresource="status")


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.02)


async def end(world: WeightWorld, one: Pod) -> None:
    await world.cluster.delete(Pod, one.metadata.name, "default", grace_period_s=0)


@pytest.mark.parametrize("cached", [True, False])
async def test_a_start_says_whether_its_weights_were_in_memory(tmp_path: Path, cached: bool) -> None:
    async with WeightWorld(tmp_path) as world:
        if not cached:
            world.forget()
        one = await world.starting()
        async with asyncio.timeout(30):
            while True:
                known = await world.cluster.get(Pod, one.metadata.name, "default")
                if RESIDENT in known.metadata.annotations:
                    break
                await asyncio.sleep(0.02)
        assert known.metadata.annotations[RESIDENT] == ("1.00" if cached else "0.00")


async def test_weights_are_brought_back_for_a_revision_that_sleeps_with_them(tmp_path: Path) -> None:
    async with WeightWorld(tmp_path) as world:
        await world.scaler("Cached")
        one = await world.starting()
        await world.becomes(one, Initialized="True", Ready="True")
        await until(lambda: world.keeper._held)
        world.forget()
        await end(world, one)
        await until(lambda: world.share() == 1.0)


async def test_weights_of_a_revision_that_is_gone_leave_memory(tmp_path: Path) -> None:
    async with WeightWorld(tmp_path) as world:
        world.forget()
        await world.scaler("Gone")
        one = await world.starting()
        await world.becomes(one, Initialized="True", Ready="True")
        await until(lambda: world.keeper._held)
        world.file.read_bytes()
        assert world.share() == 1.0
        await end(world, one)
        await until(lambda: world.share() == 0.0)
        await until(lambda: not world.keeper._held)
