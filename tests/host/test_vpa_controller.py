"""Vertical pod autoscalers on virtual time, with the real workload controllers over the real store; only the measured use is given."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import convert, structs

from penstock.decide.usage import Usage
from penstock.decide.vpa import amount
from penstock.decide.vpa_apply import UPDATES
from penstock.host.vpa import VpaController
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.pod import (
    Container,
    ContainerState,
    ContainerStateTerminated,
    Pod,
    ResourceRequirements,
)
from penstock.resources.vpa import VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint
from penstock.testing.factories import deployment, template
from penstock.testing.world import World, condition, is_active, is_ready

pytestmark = pytest.mark.looptime
MIB = 1 << 20
HOUR_S = 3600


class Sized(World):
    """A world with a vertical autoscaler's controller; every container uses `cores` and `memory`, or None is measured."""

    def __init__(self) -> None:
        self.cores: float = 0.5
        self.memory: float = 500 * MIB
        self.measures = True
        super().__init__(self._controller)

    def _controller(self, world: World) -> VpaController:
        self.controller = VpaController(
            world.cluster, world.cache, world.recorder.named("vpa"), world.clock, usages=self
        )
        return self.controller

    def of(self, pod: Pod) -> Mapping[str, Usage]:
        if not self.measures or not is_ready(pod):
            return {}
        now = self.clock.now()
        return {
            c.name: Usage(now, 15.0, {"cpu": self.cores, "memory": self.memory}) for c in pod.spec.containers
        }

    async def serve(
        self, replicas: int = 2, *, requests: dict[str, str] | None = None, **limits: str
    ) -> None:
        """A Deployment `web` whose pods are up."""
        resources = ResourceRequirements(
            requests=requests or {"cpu": "100m", "memory": "64Mi"}, limits=limits
        )
        container = Container(name="main", image="example", command=("true",), resources=resources)
        pods = template({"app": "web"}, containers=(container,))
        await self.cluster.create(deployment("web", replicas=replicas, template=pods))
        await asyncio.sleep(15)

    async def size(self, mode: str, name: str = "sizer", **spec: Any) -> None:
        """Its vertical autoscaler."""
        update = {"updateMode": mode, **spec.pop("update", {})}
        target = spec.pop("targetRef", {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"})
        document = {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"targetRef": target, "updatePolicy": update, **spec},
        }
        await self.cluster.create(convert(document, VerticalPodAutoscaler))

    async def scale_out(self, metric: str, name: str = "web") -> None:
        """A horizontal autoscaler of the same target."""
        target = {"type": "Utilization", "averageUtilization": 50}
        document = {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "maxReplicas": 3,
                "metrics": [{"type": "Resource", "resource": {"name": metric, "target": target}}],
            },
        }
        await self.cluster.create(convert(document, HorizontalPodAutoscaler))

    async def sizer(self, name: str = "sizer") -> VerticalPodAutoscaler:
        return await self.cluster.get(VerticalPodAutoscaler, name, "default")

    async def target(self) -> dict[str, Any]:
        """What is recommended for the container; {} for nothing."""
        recommended = (await self.sizer()).status.recommendation
        return dict(recommended.container_recommendations[0].target) if recommended else {}

    async def requests(self) -> list[dict[str, Any]]:
        """Of every pod."""
        return [dict(p.spec.containers[0].resources.requests) for p in await self.pods() if is_active(p)]


async def test_a_recommendation_appears_within_a_minute_and_off_changes_nothing_else() -> None:
    async with Sized() as world:
        await world.serve()
        await world.size("Off")
        await asyncio.sleep(70)
        target = await world.target()
        assert amount("cpu", target["cpu"]) == pytest.approx(575, rel=0.1)
        assert amount("memory", target["memory"]) == pytest.approx(1.15 * 500 * MIB, rel=0.1)
        sizer = await world.sizer()
        assert condition(sizer, "RecommendationProvided").status == "True"
        assert condition(sizer, "LowConfidence").status == "True"
        await asyncio.sleep(24 * HOUR_S)
        assert await world.requests() == [{"cpu": "100m", "memory": "64Mi"}] * 2
        assert "EvictedByVPA" not in "\n".join(await world.events())
        assert condition(await world.sizer(), "LowConfidence").status == "False"


async def test_initial_gives_new_pods_their_size_and_leaves_running_ones() -> None:
    async with Sized() as world:
        await world.serve(cpu="200m")
        await world.size("Initial")
        await asyncio.sleep(200)
        assert await world.requests() == [{"cpu": "100m", "memory": "64Mi"}] * 2
        gone = (await world.pods())[0].metadata.name
        await world.cluster.delete(Pod, gone, "default")
        await asyncio.sleep(30)
        fresh = next(p for p in await world.pods() if UPDATES in p.metadata.annotations)
        target = await world.target()
        resources = fresh.spec.containers[0].resources
        assert resources.requests["memory"] == target["memory"]
        assert amount("cpu", resources.limits["cpu"]) == 2 * amount("cpu", resources.requests["cpu"])
        assert "cpu request, cpu limit" in fresh.metadata.annotations[UPDATES]


@pytest.mark.parametrize("mode", ["Recreate", "Auto", "InPlaceOrRecreate"])
async def test_pods_outside_their_bounds_are_recreated_at_most_half_at_a_time(mode: str) -> None:
    async with Sized() as world:
        await world.serve(4)
        await world.size(mode)
        fewest = 4
        for _ in range(300):
            await asyncio.sleep(2)
            fewest = min(fewest, sum(map(is_ready, await world.pods())))
        target = await world.target()
        assert fewest == 2
        assert all(amount("cpu", one["cpu"]) > 400 for one in await world.requests())
        assert (
            abs(amount("memory", (await world.requests())[0]["memory"]) - amount("memory", target["memory"]))
            < 200 * MIB
        )
        events = "\n".join(await world.events())
        assert "EvictedByVPA: Pod was evicted by VPA Updater to apply resource recommendation: main" in events
        if mode == "InPlaceOrRecreate":
            assert "InPlaceNotSupported: InPlaceOrRecreate acts as Recreate" in events


async def test_a_pod_of_the_right_size_is_left_alone() -> None:
    async with Sized() as world:
        await world.serve(2, requests={"cpu": "600m", "memory": "600Mi"})
        await world.size("Recreate")
        names = {pod.metadata.name for pod in await world.pods()}
        await asyncio.sleep(11 * HOUR_S)
        assert {pod.metadata.name for pod in await world.pods()} == names


async def test_a_single_replica_is_not_evicted_unless_the_policy_allows_it() -> None:
    async with Sized() as world:
        await world.serve(1)
        await world.size("Recreate")
        await asyncio.sleep(600)
        assert await world.requests() == [{"cpu": "100m", "memory": "64Mi"}]
        await world.patch(VerticalPodAutoscaler, "sizer", {"spec": {"updatePolicy": {"minReplicas": 1}}})
        await asyncio.sleep(120)
        [request] = await world.requests()
        assert amount("cpu", request["cpu"]) > 400


async def test_running_out_of_memory_raises_the_recommendation_and_is_kept_at_once() -> None:
    async with Sized() as world:
        await world.serve(2, requests={"cpu": "500m", "memory": "1Gi"})
        await world.size("Off")
        await asyncio.sleep(130)
        before = amount("memory", (await world.target())["memory"])
        [victim, _] = await world.pods()
        ended = ContainerStateTerminated(
            exit_code=137, reason="OOMKilled", started_at="2026-01-01T00:00:10Z", finished_at="2026-01-01T00:02:20Z"
        )  # fmt: skip
        [status] = victim.status.container_statuses
        died = structs.replace(status, restart_count=1, last_state=ContainerState(terminated=ended))
        await world.cluster.replace(
            structs.replace(victim, status=structs.replace(victim.status, container_statuses=(died,))),
            subresource="status",
        )
        await asyncio.sleep(70)
        after = amount("memory", (await world.target())["memory"])
        assert before < 600 * MIB < after * 0.5
        assert after >= 1.2 * 1024 * MIB
        events = "\n".join(await world.events())
        assert f"OutOfMemory: container main of pod {victim.metadata.name} ran out of memory" in events
        [checkpoint] = (await world.cluster.list(VerticalPodAutoscalerCheckpoint)).items
        weights = checkpoint.status.memory_histogram.bucket_weights
        assert weights
        await asyncio.sleep(HOUR_S)
        counted = "\n".join(await world.events()).count("OutOfMemory")
        assert counted == 1


async def test_a_restart_keeps_what_was_learnt() -> None:
    async with Sized() as world:
        await world.serve()
        await world.size("Off")
        await asyncio.sleep(10 * HOUR_S)
        before = await world.target()
        upper = (await world.sizer()).status.recommendation.container_recommendations[0].upper_bound
        world.controller._known.clear()
        world.cores = 4.0
        await asyncio.sleep(70)
        assert (await world.target())["cpu"] == before["cpu"]  # one sample against 600
        again = (await world.sizer()).status.recommendation.container_recommendations[0].upper_bound
        assert amount("cpu", again["cpu"]) == pytest.approx(amount("cpu", upper["cpu"]), rel=0.1)
        await world.cluster.delete(VerticalPodAutoscaler, "sizer", "default")
        await asyncio.sleep(60)
        assert (await world.cluster.list(VerticalPodAutoscalerCheckpoint)).items == ()


async def test_a_checkpoint_that_cannot_be_read_is_as_if_it_were_not_there() -> None:
    async with Sized() as world:
        await world.serve()
        await world.size("Off")
        await asyncio.sleep(70)
        [checkpoint] = (await world.cluster.list(VerticalPodAutoscalerCheckpoint)).items
        bad = {"status": {"cpuHistogram": {"bucketWeights": {"-7": 5, "9999": 1}}}}
        await world.patch(VerticalPodAutoscalerCheckpoint, checkpoint.metadata.name, bad)
        await asyncio.sleep(1)
        world.controller._known.clear()
        await asyncio.sleep(70)
        assert amount("cpu", (await world.target())["cpu"]) == pytest.approx(575, rel=0.1)


async def test_without_measurements_nothing_is_recommended_and_the_condition_says_so() -> None:
    async with Sized() as world:
        world.measures = False
        await world.serve()
        await world.size("Recreate")
        await asyncio.sleep(300)
        sizer = await world.sizer()
        assert sizer.status.recommendation is None
        assert condition(sizer, "RecommendationProvided").status == "False"
        assert "no use was seen yet" in condition(sizer, "RecommendationProvided").message
        assert await world.requests() == [{"cpu": "100m", "memory": "64Mi"}] * 2


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        (
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"},
            "Deployment default/none not found",
        ),
        ({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web"}, "DaemonSet cannot be sized"),
    ],
)
async def test_a_target_that_is_not_there_is_told(reference: dict[str, str], says: str) -> None:
    async with Sized() as world:
        await world.serve()
        await world.size("Off", targetRef=reference)
        await asyncio.sleep(5)
        found = condition(await world.sizer(), "ConfigUnsupported")
        assert (found.status, found.reason) == ("True", "TargetNotFound")
        assert says in found.message
        assert condition(await world.sizer(), "NoPodsMatched").status == "True"


async def test_an_autoscaler_of_another_recommender_is_left_alone() -> None:
    async with Sized() as world:
        await world.serve()
        await world.size("Recreate", recommenders=[{"name": "mine"}])
        await asyncio.sleep(300)
        assert (await world.sizer()).status.conditions == ()


async def test_the_second_of_two_on_one_resource_leaves_it_alone_and_names_the_first() -> None:
    async with Sized() as world:
        await world.serve()
        await world.scale_out("cpu")
        await asyncio.sleep(2)
        await world.size("Recreate")
        await asyncio.sleep(600)
        found = condition(await world.sizer(), "ConfigUnsupported")
        assert (found.status, found.reason) == ("True", "ConflictingAutoscaler")
        assert "HorizontalPodAutoscaler web already scales Deployment web by cpu" in found.message
        assert "ConflictingAutoscaler: cpu of its pods is left alone" in "\n".join(await world.events())
        for one in await world.requests():
            assert one["cpu"] == "100m"
            assert amount("memory", one["memory"]) > 400 * MIB
        await world.cluster.delete(HorizontalPodAutoscaler, "web", "default")
        await asyncio.sleep(300)
        assert condition(await world.sizer(), "ConfigUnsupported").status == "False"
        assert all(amount("cpu", one["cpu"]) > 400 for one in await world.requests())


async def test_the_first_is_not_disturbed_by_a_horizontal_one_that_comes_later() -> None:
    async with Sized() as world:
        await world.serve()
        await world.size("Off")
        await world.patch(
            VerticalPodAutoscaler, "sizer", {"spec": {"updatePolicy": {"updateMode": "Initial"}}}
        )
        await asyncio.sleep(2)
        await world.scale_out("cpu")
        await asyncio.sleep(70)
        assert condition(await world.sizer(), "ConfigUnsupported") is None
