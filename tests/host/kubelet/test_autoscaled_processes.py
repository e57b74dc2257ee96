"""An autoscaler over real processes: the kubelet runs them, their CPU time is measured, and the Deployment grows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from measured_processes import Parts, machine
from msgspec import convert

from penstock.contracts.trigger import ExternalMetrics
from penstock.host.hpa import HpaController
from penstock.host.metrics.readings import MetricReader
from penstock.host.metrics.sampler import UsageSampler
from penstock.kit.errors import NotFound
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.meta import LabelSelector
from penstock.resources.workload import Deployment

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


def horizontal(parts: Parts, sampler: UsageSampler) -> HpaController:
    clock = parts[-1]
    return HpaController(*parts, metrics=MetricReader(clock, sampler, Nothing(), {}))


@pytest.mark.e2e
@pytest.mark.timeout(200)
async def test_processes_that_are_busy_get_company(tmp_path: Path) -> None:
    async with machine(tmp_path, horizontal) as there, asyncio.timeout(150):
        await there.run_measured(A_FIFTH, cpu="100m")
        await there.cluster.create(convert(HPA, HorizontalPodAutoscaler))
        while (await there.cluster.get(Deployment, "web", "default")).spec.replicas != 2:
            await asyncio.sleep(0.2)
        while (
            scaler := await there.cluster.get(HorizontalPodAutoscaler, "web", "default")
        ).status.desired_replicas != 2:
            await asyncio.sleep(0.2)
        (metric,) = scaler.status.current_metrics
        assert metric.resource is not None
        # A fifth of a core over a tenth; the machine may be busy with other things.
        assert 60 <= (metric.resource.current.average_utilization or 0) <= 400
