"""Horizontal pod autoscalers on virtual time, with the real workload controllers over the real store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from msgspec import convert

from penstock.decide.hpa_metric import PodReadings, Reading, Unread, ValueReadings
from penstock.decide.hpa_replicas import PodSample
from penstock.host.hpa import HpaController
from penstock.kit.errors import Conflict
from penstock.resources.autoscaling import HorizontalPodAutoscaler, MetricSpec
from penstock.resources.meta import Condition
from penstock.resources.pod import Container, Pod, ResourceRequirements
from penstock.resources.vpa import VerticalPodAutoscaler
from penstock.resources.workload import Deployment
from penstock.testing.factories import deployment, template
from penstock.testing.world import World, condition

pytestmark = pytest.mark.looptime

CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
}
QUEUE = {
    "type": "External",
    "external": {"metric": {"name": "depth"}, "target": {"type": "AverageValue", "averageValue": "10"}},
}


class Meters:
    """Metrics whose values tests turn: cores per pod in thousandths, and the length of a queue."""

    def __init__(self) -> None:
        self.cpu_milli: int | None = 100
        self.queue: float | None = 0
        self.reads = 0
        self.now = 0.0

    async def read_all(
        self, metrics: Iterable[MetricSpec], namespace: str, pods: Sequence[Pod]
    ) -> tuple[Reading, ...]:
        self.reads += 1
        return tuple(self._read(metric, pods) for metric in metrics)

    def _read(self, metric: MetricSpec, pods: Sequence[Pod]) -> Reading:
        if metric.type == "External":
            return Unread("gone") if self.queue is None else ValueReadings((int(self.queue * 1000),))
        if self.cpu_milli is None:
            return Unread("no metrics returned from resource metrics API")
        ready = [pod for pod in pods if pod.status.phase == "Running"]
        return PodReadings({pod.metadata.name: PodSample(self.cpu_milli) for pod in ready})


class Scaled(World):
    """A world with an autoscaler controller whose metrics are `meters`."""

    def __init__(self) -> None:
        self.meters = Meters()
        super().__init__(self._controller)

    def _controller(self, world: World) -> HpaController:
        recorder = world.recorder.named("horizontal-pod-autoscaler")
        return HpaController(world.cluster, world.cache, recorder, world.clock, metrics=self.meters)

    async def serve(self, replicas: int, *metrics: Any, ready_s: float = 10, **spec: Any) -> None:
        """A Deployment `web` whose pods are up, and then its autoscaler."""
        resources = ResourceRequirements(requests={"cpu": "1"})
        container = Container(name="main", image="example", command=("true",), resources=resources)
        made = deployment(
            "web", replicas=replicas, template=template({"app": "web"}, containers=(container,))
        )
        await self.cluster.create(made)
        await asyncio.sleep(ready_s)
        await self.autoscale("web", *metrics, **spec)

    async def autoscale(self, name: str, *metrics: Any, kind: str = "Deployment", **spec: Any) -> None:
        document = {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "scaleTargetRef": {"kind": kind, "name": "web", "apiVersion": "apps/v1"},
                "minReplicas": 1,
                "maxReplicas": 10,
                "metrics": metrics or (CPU,),
                **spec,
            },
        }
        await self.cluster.create(convert(document, HorizontalPodAutoscaler))

    async def hpa(self, name: str = "web") -> HorizontalPodAutoscaler:
        return await self.cluster.get(HorizontalPodAutoscaler, name, "default")

    async def replicas(self) -> int | None:
        return (await self.deployment()).spec.replicas

    async def says(self, type_: str, name: str = "web") -> Condition:
        found = condition(await self.hpa(name), type_)
        assert found is not None
        return found


async def test_load_grows_the_deployment_and_its_absence_shrinks_it_after_five_minutes() -> None:
    async with Scaled() as world:
        await world.serve(2)
        world.meters.cpu_milli = 900
        await asyncio.sleep(1)
        assert await world.replicas() == 4
        assert (await world.says("AbleToScale")).reason == "SucceededRescale"
        assert (
            "SuccessfulRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target"
            in await world.events()
        )
        world.meters.cpu_milli = 100
        await asyncio.sleep(280)
        assert await world.replicas() == 4
        stabilized = await world.says("AbleToScale")
        assert stabilized.reason == "ScaleDownStabilized"
        await asyncio.sleep(60)
        assert await world.replicas() == 1
        status = (await world.hpa()).status
        assert status.observed_generation == 1
        assert status.last_scale_time is not None


async def test_pods_that_start_do_not_let_it_grow_further() -> None:
    async with Scaled() as world:
        world.kubelet.start_s = 120
        await world.serve(2, ready_s=130)
        world.meters.cpu_milli = 900
        await asyncio.sleep(76)
        assert await world.replicas() == 4


async def test_it_syncs_every_fifteen_seconds_and_at_once_when_its_spec_changes() -> None:
    async with Scaled() as world:
        await world.serve(2)
        await asyncio.sleep(61)
        assert world.meters.reads == 5
        await world.patch(HorizontalPodAutoscaler, "web", {"spec": {"minReplicas": 5}})
        await asyncio.sleep(1)
        assert await world.replicas() == 5


async def test_metrics_that_fail_leave_the_number_alone_and_are_told() -> None:
    async with Scaled() as world:
        await world.serve(3)
        world.meters.cpu_milli = None
        await asyncio.sleep(16)
        assert await world.replicas() == 3
        active = await world.says("ScalingActive")
        assert (active.status, active.reason) == ("False", "FailedGetResourceMetric")
        events = await world.events()
        assert any(
            event.startswith("FailedGetResourceMetric: failed to get cpu utilization") for event in events
        )
        assert any(
            event.startswith("FailedComputeMetricsReplicas: invalid metrics (1 invalid") for event in events
        )
        since = active.last_transition_time
        await asyncio.sleep(60)
        assert (await world.says("ScalingActive")).last_transition_time == since


async def test_zero_by_hand_stops_scaling_and_zero_by_metric_starts_again() -> None:
    async with Scaled() as world:
        await world.serve(2, QUEUE)
        await world.patch(Deployment, "web", {"spec": {"replicas": 0}})
        world.meters.queue = 50
        await asyncio.sleep(31)
        assert await world.replicas() == 0
        assert (await world.says("ScalingActive")).reason == "ScalingDisabled"
        await world.patch(HorizontalPodAutoscaler, "web", {"spec": {"minReplicas": 0}})
        await asyncio.sleep(1)
        assert await world.replicas() == 4
        await asyncio.sleep(30)
        assert await world.replicas() == 5


async def test_behaviour_limits_the_rate() -> None:
    limited = {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
    async with Scaled() as world:
        await world.serve(2, QUEUE, behavior=limited)
        world.meters.queue = 90
        await asyncio.sleep(16)
        assert await world.replicas() == 3
        assert (await world.says("ScalingLimited")).reason == "ScaleUpLimit"
        await asyncio.sleep(30)
        assert await world.replicas() == 3
        await asyncio.sleep(31)
        assert await world.replicas() == 4


async def test_a_restarted_controller_keeps_what_runs_and_says_nothing_before_usage_is_known() -> None:
    async with Scaled() as world:
        await world.serve(6)
        await asyncio.sleep(1)
        before = (await world.hpa()).status
        fresh = HpaController(
            world.cluster, world.cache, world.recorder.named("test"), world.clock, metrics=world.meters
        )
        (key,) = fresh.watches()[0].keys(await world.hpa())
        world.meters.cpu_milli = None
        assert await fresh.reconcile(key) == 15
        assert (await world.hpa()).status == before
        world.meters.cpu_milli = 10
        for _ in range(3):
            await asyncio.sleep(15)
            await fresh.reconcile(key)
        assert await world.replicas() == 6


async def test_a_target_that_is_not_there_is_told_and_found_later() -> None:
    async with Scaled() as world:
        await world.autoscale("web")
        await asyncio.sleep(1)
        able = await world.says("AbleToScale")
        assert (able.status, able.reason) == ("False", "FailedGetScale")
        assert 'deployments.apps "web" not found' in able.message
        await world.cluster.create(deployment("web", replicas=1))
        await asyncio.sleep(20)
        assert (await world.says("AbleToScale")).status == "True"


async def test_a_kind_that_has_no_scale_is_told() -> None:
    async with Scaled() as world:
        await world.autoscale("web", kind="StatefulSet")
        await asyncio.sleep(1)
        assert (
            'no matches for kind "StatefulSet" in group "apps"' in (await world.says("AbleToScale")).message
        )


async def test_two_autoscalers_of_the_same_pods_stop_each_other() -> None:
    async with Scaled() as world:
        await world.serve(2)
        await world.autoscale("other")
        world.meters.cpu_milli = 900
        await asyncio.sleep(16)
        assert await world.replicas() == 2
        for name in ("web", "other"):
            active = await world.says("ScalingActive", name)
            assert (active.reason, active.status) == ("AmbiguousSelector", "False")
            assert (
                active.message
                == "pods by selector app=web are controlled by multiple HPAs: [default/other default/web]"
            )


async def test_an_autoscaler_gives_way_to_one_of_another_kind_that_came_first() -> None:
    async with Scaled() as world:
        document = {
            "metadata": {"name": "size", "namespace": "default"},
            "spec": {"targetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}},
        }
        await world.cluster.create(convert(document, VerticalPodAutoscaler))
        await asyncio.sleep(2)
        world.meters.cpu_milli = 900
        await world.serve(2)
        await asyncio.sleep(16)
        assert await world.replicas() == 2
        active = await world.says("ScalingActive")
        assert (active.status, active.reason) == ("False", "ConflictingAutoscaler")
        assert "VerticalPodAutoscaler size already sizes the pods of Deployment web by cpu" in active.message


async def test_a_number_that_somebody_else_just_wrote_is_not_overwritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Scaled() as world:
        await world.serve(2)
        patch = world.cluster.patch

        async def contended(kind: Any, *args: Any, subresource: Any = "", **fields: Any) -> Any:
            if subresource == "scale":
                raise Conflict("the object has been modified")
            return await patch(kind, *args, subresource=subresource, **fields)

        monkeypatch.setattr(world.cluster, "patch", contended)
        world.meters.cpu_milli = 900
        await asyncio.sleep(16)
        able = await world.says("AbleToScale")
        assert (able.status, able.reason) == ("False", "FailedUpdateScale")
        monkeypatch.setattr(world.cluster, "patch", patch)
        await asyncio.sleep(15)
        assert await world.replicas() == 4
