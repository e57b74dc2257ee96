"""Autoscalers of the user's own name a component's Deployment as KServe does, and scale the revision that has the traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import convert
from service_world import ServiceWorld
from test_service_autoscalers import CLASS, standard

from penstock.app.registry import trigger_plugin
from penstock.decide.hpa_metric import ValueReadings
from penstock.decide.usage import Usage
from penstock.host.hpa import HpaController
from penstock.host.scaled_object import ScaledObjectController
from penstock.host.vpa import VpaController
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.keda import ScaledObject
from penstock.resources.pod import Pod
from penstock.resources.vpa import VerticalPodAutoscaler
from penstock.testing.world import World, condition

pytestmark = pytest.mark.looptime
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "iris-predictor"}
QUEUE = {
    "type": "External",
    "external": {"metric": {"name": "depth"}, "target": {"type": "AverageValue", "averageValue": "10"}},
}


class Scaled(ServiceWorld):
    """With the host's autoscalers; `queue` is what every metric says."""

    def __init__(self) -> None:
        self.queue = 0
        super().__init__(self._hpa, self._scaled_objects, self._vpa)

    def _hpa(self, world: World) -> HpaController:
        return HpaController(
            world.cluster, world.cache, world.recorder.named("hpa"), world.clock, metrics=self
        )

    def _scaled_objects(self, world: World) -> ScaledObjectController:
        named = world.recorder.named("keda-operator")
        return ScaledObjectController(
            world.cluster, world.cache, named, world.clock, plugin=trigger_plugin, demand=lambda *_: 0.0
        )

    def _vpa(self, world: World) -> VpaController:
        return VpaController(
            world.cluster, world.cache, world.recorder.named("vpa"), world.clock, usages=self
        )

    async def read_all(self, metrics: Any, namespace: str, pods: Any) -> tuple[ValueReadings, ...]:
        return tuple(ValueReadings((self.queue * 1000,)) for _ in metrics)

    def of(self, pod: Pod) -> Mapping[str, Usage]:
        return {"kserve-container": Usage(self.clock.now(), 15.0, {"cpu": 0.5, "memory": 500 << 20})}

    async def autoscale(self, name: str = "mine") -> None:
        spec = {"scaleTargetRef": TARGET, "minReplicas": 1, "maxReplicas": 9, "metrics": [QUEUE]}
        document = {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
        await self.cluster.create(convert(document, HorizontalPodAutoscaler))

    async def says(self, type_: str, name: str = "mine") -> tuple[str, str]:
        found = condition(await self.cluster.get(HorizontalPodAutoscaler, name, "default"), type_)
        assert found is not None
        return found.reason, found.message


async def test_an_hpa_for_the_component_scales_the_revision_with_the_traffic_and_then_the_next_one() -> None:
    async with Scaled() as world:
        await world.autoscale()
        await asyncio.sleep(1)
        assert (await world.says("AbleToScale"))[0] == "FailedGetScale", "there is no such component yet"
        await world.cluster.create(standard({CLASS: "external"}))
        world.queue = 30
        await asyncio.sleep(60)
        assert await world.sizes() == {"1": 3}
        await world.change(model={"storageUri": "file:///models/other"})
        await asyncio.sleep(60)
        assert await world.sizes() == {"1": 0, "2": 3}
        assert world.shares()["2"] == (100, 3)


async def test_a_component_that_has_an_autoscaler_is_not_scaled_by_a_second_one() -> None:
    async with Scaled() as world:
        await world.cluster.create(standard())
        await asyncio.sleep(20)
        await world.autoscale()
        await asyncio.sleep(60)
        assert (await world.says("ScalingActive"))[0] == "AmbiguousSelector"


async def test_requests_scale_a_component_before_an_hpa_does() -> None:
    async with Scaled() as world:
        made = standard()
        made.metadata.annotations.clear()
        await world.cluster.create(made)
        await asyncio.sleep(20)
        await world.autoscale()
        await asyncio.sleep(60)
        _, message = await world.says("ScalingActive")
        assert "Deployment iris-predictor-00001 is already scaled by PodAutoscaler" in message


async def test_a_scaled_object_for_the_component_is_ready_once_it_is_there_and_scales_it() -> None:
    cron = {"timezone": "UTC", "start": "0 0 1 1 *", "end": "59 23 31 12 *", "desiredReplicas": "3"}
    spec = {"scaleTargetRef": {"name": "iris-predictor"}, "triggers": [{"type": "cron", "metadata": cron}]}
    async with Scaled() as world:
        document = {"metadata": {"name": "mine", "namespace": "default"}, "spec": spec}
        await world.cluster.create(convert(document, ScaledObject))
        await asyncio.sleep(1)
        await world.cluster.create(standard({CLASS: "external"}))
        await asyncio.sleep(30)
        found = await world.cluster.get(ScaledObject, "mine", "default")
        ready = condition(found, "Ready")
        assert ready is not None
        assert ready.status == "True", ready.message
        made = await world.cluster.get(HorizontalPodAutoscaler, "keda-hpa-mine", "default")
        assert made.spec.scale_target_ref.name == "iris-predictor-00001"
        await world.change(model={"storageUri": "file:///models/other"})
        await asyncio.sleep(60)
        made = await world.cluster.get(HorizontalPodAutoscaler, "keda-hpa-mine", "default")
        assert made.spec.scale_target_ref.name == "iris-predictor-00002"


async def test_a_vertical_autoscaler_for_the_component_recommends_and_sizes_pods_of_new_revisions() -> None:
    async with Scaled() as world:
        await world.cluster.create(standard({CLASS: "external"}))
        await asyncio.sleep(20)
        spec = {"targetRef": TARGET, "updatePolicy": {"updateMode": "Initial"}}
        document = {"metadata": {"name": "mine", "namespace": "default"}, "spec": spec}
        await world.cluster.create(convert(document, VerticalPodAutoscaler))
        await asyncio.sleep(130)
        found = await world.cluster.get(VerticalPodAutoscaler, "mine", "default")
        assert found.status.recommendation is not None
        [recommended] = found.status.recommendation.container_recommendations
        await world.change(model={"storageUri": "file:///models/other"})
        await asyncio.sleep(30)
        [pod] = await world.pods("penstock.dev/revision=iris-predictor-00002")
        [container] = pod.spec.containers
        assert container.resources is not None
        assert container.resources.requests["memory"] == recommended.target["memory"]
