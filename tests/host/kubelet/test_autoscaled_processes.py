"""An autoscaler over real processes: the kubelet runs them, their CPU time is measured, and the Deployment grows."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from msgspec import convert

from penstock.contracts.trigger import ExternalMetrics
from penstock.controlplane.events import EventRecorder
from penstock.controlplane.informer import InformerCache
from penstock.controlplane.manager import Manager
from penstock.host.deployments import DeploymentController
from penstock.host.garbage import GarbageCollector
from penstock.host.hpa import HpaController
from penstock.host.kubelet.kubelet import Kubelet
from penstock.host.kubelet.layout import Layout
from penstock.host.metrics.gpus import Nvml
from penstock.host.metrics.readings import MetricReader
from penstock.host.metrics.sampler import UsageSampler, reading_processes
from penstock.host.replicasets import ReplicaSetController
from penstock.kit.clock import SystemClock
from penstock.kit.errors import NotFound
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.meta import LabelSelector
from penstock.resources.pod import Container, Pod, ResourceRequirements
from penstock.resources.workload import Deployment
from penstock.testing.factories import deployment, memory_cluster, template

NODE = "n1"
A_FIFTH = "import time\nwhile True:\n  end = time.monotonic() + 0.02\n  while time.monotonic() < end: pass\n  time.sleep(0.08)"
HPA = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
        "maxReplicas": 2,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
            }
        ],
    },
}


class Nothing(ExternalMetrics):
    async def external(
        self, namespace: str, metric: str, selector: LabelSelector | None
    ) -> tuple[float, ...]:
        raise NotFound(metric)


@pytest.mark.e2e
async def test_processes_that_are_busy_get_company(tmp_path: Path) -> None:
    clock, cluster = SystemClock(), memory_cluster()
    cache, recorder = InformerCache(cluster, clock), EventRecorder(cluster, clock)
    events = recorder.named("test")
    kubelet = Kubelet(cluster, cache, events, clock, home=tmp_path, nodes=frozenset({NODE}))
    sampler = UsageSampler(cache, clock, layout=Layout(tmp_path), read=reading_processes(Nvml()))
    metrics = MetricReader(clock, sampler, Nothing(), {})
    manager = Manager(
        [
            DeploymentController(cluster, cache, events, clock),
            ReplicaSetController(cluster, cache, events, clock),
            GarbageCollector(cluster.objects),
            kubelet,
            sampler,
            HpaController(cluster, cache, events, clock, metrics=metrics),
        ],
        cache=cache,
        recorder=recorder,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    container = Container(
        name="main",
        image="example",
        command=(sys.executable, "-S", "-c", A_FIFTH),
        resources=ResourceRequirements(requests={"cpu": "100m"}),
    )
    made = template(
        {"app": "web"}, containers=(container,), node_name=NODE, termination_grace_period_seconds=1
    )
    try:
        await cluster.create(deployment("web", replicas=1, template=made))
        async with asyncio.timeout(40):
            while not any(sampler.of(pod) for pod in (await cluster.list(Pod)).items):
                await asyncio.sleep(0.2)
            await cluster.create(convert(HPA, HorizontalPodAutoscaler))
            while (await cluster.get(Deployment, "web", "default")).spec.replicas != 2:
                await asyncio.sleep(0.2)
        (metric,) = (await cluster.get(HorizontalPodAutoscaler, "web", "default")).status.current_metrics
        assert metric.resource is not None
        # A fifth of a core over a tenth; the machine may be busy with other things.
        assert 60 <= (metric.resource.current.average_utilization or 0) <= 400
    finally:
        await kubelet.stop_all(1.0)
        stop.set()
        await running
