"""From service to autoscaler: which objects scale a service's Deployments, with the real controllers in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from test_inference_service import ServiceWorld, iris

from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.keda import ScaledObject
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment
from penstock.testing.world import condition

pytestmark = pytest.mark.looptime
CLASS = "serving.kserve.io/autoscalerClass"


def standard(annotations: dict[str, str] | None = None, **predictor: Any) -> InferenceService:
    """A service in Standard mode."""
    made = iris(**predictor)
    given = {"serving.kserve.io/deploymentMode": "Standard", **(annotations or {})}
    meta: ObjectMeta = msgspec.structs.replace(made.metadata, annotations=given)
    return msgspec.structs.replace(made, metadata=meta)


async def scalers(world: ServiceWorld) -> list[tuple[str, str, str]]:
    """Kind, name and target of every autoscaler."""
    found = [
        (one.kind, one.metadata.name, one.spec.scale_target_ref.name)
        for kind in (HorizontalPodAutoscaler, ScaledObject, PodAutoscaler)
        for one in (await world.cluster.list(kind, "default")).items
    ]
    return sorted(found)


async def annotate(world: ServiceWorld, **annotations: str | None) -> None:
    patch = {"metadata": {"annotations": {CLASS: annotations["to"]}}}
    await world.cluster.patch(InferenceService, "iris", "default", patch)
    await asyncio.sleep(20)


def queries(*backends: str) -> dict[str, Any]:
    metrics = [
        {
            "type": "External",
            "external": {
                "metric": {"backend": one, "serverAddress": "http://127.0.0.1:9", "query": "x"},
                "target": {"type": "Value", "value": "5"},
            },
        }
        for one in backends
    ]
    return {"metrics": metrics}


async def test_a_standard_service_has_an_hpa_that_follows_the_revision_with_the_traffic() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(standard(minReplicas=2, maxReplicas=4))
        await asyncio.sleep(20)
        assert await scalers(world) == [("HorizontalPodAutoscaler", "iris-predictor", "iris-predictor-00001")]
        await world.change(model={"storageUri": "file:///models/other"})
        await asyncio.sleep(40)
        assert await scalers(world) == [("HorizontalPodAutoscaler", "iris-predictor", "iris-predictor-00002")]


async def test_what_the_hpa_decides_is_not_taken_back() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(standard(minReplicas=1, maxReplicas=2))
        await asyncio.sleep(20)
        # As if it scaled, beyond what the service itself says: its bounds are the autoscaler's business now.
        await world.cluster.patch(Deployment, "iris-predictor-00001", "default", {"spec": {"replicas": 3}})
        await asyncio.sleep(40)
        assert (await world.sizes())["1"] == 3


async def test_another_class_replaces_one_autoscaler_by_the_other() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(standard())
        await asyncio.sleep(20)
        assert [kind for kind, _, _ in await scalers(world)] == ["HorizontalPodAutoscaler"]
        await annotate(world, to="keda")
        assert [kind for kind, _, _ in await scalers(world)] == ["ScaledObject"]
        await annotate(world, to="none")
        assert await scalers(world) == []
        await annotate(world, to=None)
        assert [kind for kind, _, _ in await scalers(world)] == ["HorizontalPodAutoscaler"]


async def test_a_stopped_service_has_none() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(standard())
        await asyncio.sleep(20)
        patch = {"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}}
        await world.cluster.patch(InferenceService, "iris", "default", patch)
        await asyncio.sleep(20)
        assert await scalers(world) == []


async def test_sizes_that_somebody_else_sets_are_left_alone() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(standard({CLASS: "external"}, minReplicas=1, maxReplicas=2))
        await asyncio.sleep(20)
        await world.cluster.patch(Deployment, "iris-predictor-00001", "default", {"spec": {"replicas": 5}})
        await asyncio.sleep(40)
        assert (await world.sizes())["1"] == 5


async def test_a_service_that_keda_let_sleep_stays_ready() -> None:
    async with ServiceWorld() as world:
        service = standard({CLASS: "keda"}, minReplicas=0, maxReplicas=2, autoScaling=queries("prometheus"))
        await world.cluster.create(service)
        await asyncio.sleep(20)
        [made] = (await world.cluster.list(ScaledObject, "default")).items
        assert (made.spec.min_replica_count, made.spec.max_replica_count) == (0, 2)
        await world.cluster.patch(Deployment, "iris-predictor-00001", "default", {"spec": {"replicas": 0}})
        await asyncio.sleep(40)
        assert (await world.sizes())["1"] == 0
        found = condition(await world.service(), "Ready")
        assert found is not None
        assert found.status == "True"


async def test_an_autoscaler_that_this_cluster_refuses_is_told_and_holds_up_nothing() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(standard({CLASS: "keda"}, autoScaling=queries("graphite")))
        await asyncio.sleep(30)
        assert await scalers(world) == []
        events = "\n".join(await world.events())
        assert "AutoscalerRefused" in events
        assert "graphite" in events
        found = condition(await world.service(), "Ready")
        assert found is not None
        assert found.status == "True"


async def test_a_service_in_knative_mode_has_a_pod_autoscaler_or_knatives_hpa() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris())
        await asyncio.sleep(20)
        assert await scalers(world) == [("PodAutoscaler", "iris-predictor-00001", "iris-predictor-00001")]
        patch = {
            "metadata": {"annotations": {"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"}}
        }
        await world.cluster.patch(InferenceService, "iris", "default", patch)
        await asyncio.sleep(60)
        kinds = {(kind, target) for kind, _, target in await scalers(world)}
        assert {kind for kind, _ in kinds} == {"HorizontalPodAutoscaler"}
