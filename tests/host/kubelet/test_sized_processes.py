"""A vertical autoscaler over real processes: their memory is measured, and the pod comes back with the size that it needs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from measured_processes import Parts, machine
from msgspec import convert

from penstock.decide.vpa import amount
from penstock.host.metrics.sampler import UsageSampler
from penstock.host.vpa import VpaController
from penstock.resources.pod import Pod
from penstock.resources.vpa import VerticalPodAutoscaler

HELD_BYTES = 400 << 20
HOLDS = f"import time\nheld = bytearray({HELD_BYTES})\nfor i in range(0, len(held), 4096): held[i] = 1\ntime.sleep(600)"
VPA = {
    "metadata": {"name": "sizer", "namespace": "default"},
    "spec": {
        "targetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
        "updatePolicy": {"updateMode": "Recreate", "minReplicas": 1},
    },
}


def vertical(parts: Parts, sampler: UsageSampler) -> VpaController:
    return VpaController(*parts, usages=sampler)


@pytest.mark.e2e
@pytest.mark.timeout(200)
async def test_a_pod_that_asks_for_too_little_comes_back_with_what_it_uses(tmp_path: Path) -> None:
    async with machine(tmp_path, vertical) as there, asyncio.timeout(150):
        await there.run_measured(HOLDS, holding_bytes=HELD_BYTES, cpu="20m", memory="16Mi")
        [first] = await there.pods()
        await there.cluster.create(convert(VPA, VerticalPodAutoscaler))
        while await there.pods() <= {first}:
            await asyncio.sleep(0.2)
        fresh = next(pod for pod in (await there.cluster.list(Pod)).items if pod.metadata.name != first)
        requested = fresh.spec.containers[0].resources.requests
        # The end of its bucket (5 % wide) and a margin of 15 %, over what is held and what an interpreter needs.
        assert HELD_BYTES * 1.1 < amount("memory", requested["memory"]) < HELD_BYTES * 1.4
        sizer = await there.cluster.get(VerticalPodAutoscaler, "sizer", "default")
        assert sizer.status.recommendation is not None
