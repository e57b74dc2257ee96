"""A Deployment whose pods are real processes, their use measured, and one autoscaler that acts on it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Controller, Recorder
from penstock.controlplane.events import EventRecorder
from penstock.controlplane.informer import InformerCache
from penstock.controlplane.manager import Manager
from penstock.host.deployments import DeploymentController
from penstock.host.garbage import GarbageCollector
from penstock.host.kubelet.kubelet import Kubelet
from penstock.host.kubelet.layout import Layout
from penstock.host.metrics.gpus import Nvml
from penstock.host.metrics.sampler import UsageSampler, reading_processes
from penstock.host.replicasets import ReplicaSetController
from penstock.kit.clock import Clock, SystemClock
from penstock.resources.pod import Container, Pod, ResourceRequirements
from penstock.testing.factories import deployment, memory_cluster, template

NODE = "n1"
Parts = tuple[Cluster, Cache, Recorder, Clock]


@dataclass(frozen=True)
class Machine:
    cluster: Cluster
    sampler: UsageSampler

    async def pods(self) -> set[str]:
        return {pod.metadata.name for pod in (await self.cluster.list(Pod)).items}

    async def run_measured(
        self, program: str, *, holding_bytes: int = 0, **requests: str | int | float
    ) -> None:
        """One replica of `web` runs this Python; returns when its use is known, and it holds so much memory."""
        container = Container(
            name="main",
            image="example",
            command=(sys.executable, "-S", "-c", program),
            resources=ResourceRequirements(requests=requests),
        )
        made = template(
            {"app": "web"}, containers=(container,), node_name=NODE, termination_grace_period_seconds=1
        )
        await self.cluster.create(deployment("web", replicas=1, template=made))
        while not any(used >= holding_bytes for used in await self._memory()):
            await asyncio.sleep(0.2)

    async def _memory(self) -> list[float]:
        pods = (await self.cluster.list(Pod)).items
        return [usage.amounts["memory"] for pod in pods for usage in self.sampler.of(pod).values()]


@asynccontextmanager
async def machine(
    home: Path, autoscaler: Callable[[Parts, UsageSampler], Controller]
) -> AsyncIterator[Machine]:
    clock, cluster = SystemClock(), memory_cluster()
    cache, recorder = InformerCache(cluster, clock), EventRecorder(cluster, clock)
    parts = (cluster, cache, recorder.named("test"), clock)
    kubelet = Kubelet(*parts, home=home, nodes=frozenset({NODE}))
    sampler = UsageSampler(cache, clock, layout=Layout(home), read=reading_processes(Nvml()))
    controllers: list[Controller] = [
        DeploymentController(*parts),
        ReplicaSetController(*parts),
        GarbageCollector(cluster.objects),
        kubelet,
        sampler,
        autoscaler(parts, sampler),
    ]
    stop = asyncio.Event()
    running = asyncio.create_task(Manager(controllers, cache=cache, recorder=recorder).run(stop))
    try:
        yield Machine(cluster, sampler)
    finally:
        await kubelet.stop_all(1.0)
        stop.set()
        await running
