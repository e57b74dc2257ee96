"""A vertical autoscaler over real processes: their memory is measured, and the pod comes back with the size that it needs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from msgspec import convert

from penstock.controlplane.events import EventRecorder
from penstock.controlplane.informer import InformerCache
from penstock.controlplane.manager import Manager
from penstock.decide.vpa import amount
from penstock.host.deployments import DeploymentController
from penstock.host.garbage import GarbageCollector
from penstock.host.kubelet.kubelet import Kubelet
from penstock.host.kubelet.layout import Layout
from penstock.host.metrics.gpus import Nvml
from penstock.host.metrics.sampler import UsageSampler, reading_processes
from penstock.host.replicasets import ReplicaSetController
from penstock.host.vpa import VpaController
from penstock.kit.clock import SystemClock
from penstock.resources.pod import Container, Pod, ResourceRequirements
from penstock.resources.vpa import VerticalPodAutoscaler
from penstock.testing.factories import deployment, memory_cluster, template

NODE = "n1"
HELD_BYTES = 400 << 20
HOLDS = f"import time\nheld = bytearray({HELD_BYTES})\nfor i in range(0, len(held), 4096): held[i] = 1\ntime.sleep(60)"
VPA = {
    "metadata": {"name": "sizer", "namespace": "default"},
    "spec": {
        "targetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
        "updatePolicy": {"updateMode": "Recreate", "minReplicas": 1},
    },
}


@pytest.mark.e2e
async def test_a_pod_that_asks_for_too_little_comes_back_with_what_it_uses(tmp_path: Path) -> None:
    clock, cluster = SystemClock(), memory_cluster()
    cache, recorder = InformerCache(cluster, clock), EventRecorder(cluster, clock)
    events = recorder.named("test")
    kubelet = Kubelet(cluster, cache, events, clock, home=tmp_path, nodes=frozenset({NODE}))
    sampler = UsageSampler(cache, clock, layout=Layout(tmp_path), read=reading_processes(Nvml()))
    manager = Manager(
        [
            DeploymentController(cluster, cache, events, clock),
            ReplicaSetController(cluster, cache, events, clock),
            GarbageCollector(cluster.objects),
            kubelet,
            sampler,
            VpaController(cluster, cache, events, clock, usages=sampler),
        ],
        cache=cache,
        recorder=recorder,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    container = Container(
        name="main",
        image="example",
        command=(sys.executable, "-S", "-c", HOLDS),
        resources=ResourceRequirements(requests={"cpu": "20m", "memory": "16Mi"}),
    )
    made = template(
        {"app": "web"}, containers=(container,), node_name=NODE, termination_grace_period_seconds=1
    )
    try:
        await cluster.create(deployment("web", replicas=1, template=made))
        async with asyncio.timeout(40):
            while not any(sampler.of(pod) for pod in (await cluster.list(Pod)).items):
                await asyncio.sleep(0.2)
            first = (await cluster.list(Pod)).items[0].metadata.name
            await cluster.create(convert(VPA, VerticalPodAutoscaler))
            while {pod.metadata.name for pod in (await cluster.list(Pod)).items} <= {first}:
                await asyncio.sleep(0.2)
        fresh = next(pod for pod in (await cluster.list(Pod)).items if pod.metadata.name != first)
        requested = fresh.spec.containers[0].resources.requests
        # The end of its bucket (5 % wide) and a margin of 15 %, over what is held and what an interpreter needs.
        assert HELD_BYTES * 1.1 < amount("memory", requested["memory"]) < HELD_BYTES * 1.4
        sizer = await cluster.get(VerticalPodAutoscaler, "sizer", "default")
        assert sizer.status.recommendation is not None
    finally:
        await kubelet.stop_all(1.0)
        stop.set()
        await running
