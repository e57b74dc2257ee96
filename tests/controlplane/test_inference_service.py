"""From service to traffic: the controller over the real store, with a kubelet that only pretends, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from service_world import ServiceWorld, iris

from penstock.kit.errors import NotFound
from penstock.resources.pod import (
    ContainerState,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
)
from penstock.resources.runtime import ClusterStorageContainer
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment
from penstock.testing.world import condition

pytestmark = pytest.mark.looptime


async def test_a_service_becomes_ready_with_address_runtime_and_model_status() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris())
        await asyncio.sleep(1)
        early = await world.service()
        assert condition(early, "Ready").status == "Unknown"
        assert early.status.model_status.states.target_model_state in ("Pending", "Loading")
        await asyncio.sleep(30)
        status = (await world.service()).status
        assert {c.type: c.status for c in status.conditions} == {
            "IngressReady": "True", "LatestDeploymentReady": "True", "PredictorReady": "True", "Ready": "True"
        }  # fmt: skip
        assert status.url == "http://127.0.0.1:8080/serving/default/iris"
        assert status.cluster_serving_runtime_name == "penstock-cpu"
        assert status.model_status.states.active_model_state == "Loaded"
        assert status.model_status.transition_status == "UpToDate"
        assert world.shares() == {"1": (100, 1)}
        assert any(line.startswith("InferenceServiceReady") for line in await world.events())


async def test_a_changed_predictor_moves_traffic_only_when_the_new_revision_is_ready() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris())
        await asyncio.sleep(30)
        await world.change(model={"args": ["--max_num_seqs=4"]})
        for _ in range(60):
            await asyncio.sleep(0.5)
            [route] = world.feed.table.services
            assert any(r.weight_percent and r.endpoints for r in route.revisions), (
                "never a moment without an endpoint"
            )
        assert world.shares() == {"2": (100, 1)}
        old = await world.cluster.get(Deployment, "iris-predictor-00001", "default")
        assert old.spec.replicas == 0


async def test_a_broken_canary_gets_no_traffic_and_the_status_says_why() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris())
        await asyncio.sleep(30)
        await world.change(labels={"broken": "yes"}, canaryTrafficPercent=20)
        await asyncio.sleep(30)
        assert world.shares() == {"1": (100, 1)}
        status = (await world.service()).status
        assert status.components["predictor"].latest_created_revision.endswith("00002")
        assert condition(await world.service(), "Ready").status == "True", "the old revision serves"


@contextlib.asynccontextmanager
async def never_without_an_endpoint(world: ServiceWorld) -> AsyncIterator[None]:
    """Looks all the while whether some revision with a share has an endpoint."""

    async def look() -> None:
        while True:
            assert any(percent and endpoints for percent, endpoints in world.shares().values())
            await asyncio.sleep(0.1)

    looking = asyncio.ensure_future(look())
    try:
        yield
        if looking.done():
            looking.result()
    finally:
        looking.cancel()


async def test_a_canary_gets_its_share_is_promoted_and_rolled_back_and_somebody_always_answers() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris(minReplicas=2, maxReplicas=4))
        await asyncio.sleep(30)
        assert world.shares() == {"1": (100, 2)}
        async with never_without_an_endpoint(world):
            await world.change(model={"args": ["--max_num_seqs=4"]}, canaryTrafficPercent=20)
            await asyncio.sleep(30)
            assert world.shares() == {"2": (20, 2), "1": (80, 2)}
            await world.change(canaryTrafficPercent=0)
            await asyncio.sleep(30)
            assert world.shares() == {"2": (0, 2), "1": (100, 2)}
            await world.change(canaryTrafficPercent=None)
            await asyncio.sleep(30)
            assert world.shares() == {"2": (100, 2)}
            assert await world.sizes() == {"1": 0, "2": 2}
            await world.change(canaryTrafficPercent=0)
            await asyncio.sleep(30)
            assert world.shares() == {"2": (0, 2), "1": (100, 2)}, "also after the promotion"
            await world.change(model={"args": ["--max_num_seqs=8"]}, canaryTrafficPercent=20)
            await asyncio.sleep(30)
            assert world.shares() == {"3": (20, 2), "1": (80, 2)}
            assert await world.sizes() == {"1": 2, "2": 0, "3": 2}


async def test_a_size_that_is_set_by_hand_is_put_right_by_the_autoscaler() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris(minReplicas=2, maxReplicas=4))
        await asyncio.sleep(30)
        for wished, kept in ((3, 2), (9, 2), (0, 2), (1, 2)):
            await world.patch(Deployment, "iris-predictor-00001", {"spec": {"replicas": wished}})
            await asyncio.sleep(30)
            assert await world.sizes() == {"1": kept}
            assert world.shares() == {"1": (100, kept)}
        await world.change(minReplicas=3, maxReplicas=3)
        await asyncio.sleep(30)
        assert world.shares() == {"1": (100, 3)}


async def test_a_service_stays_ready_while_it_grows() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris())
        await asyncio.sleep(30)
        await world.change(minReplicas=4)
        for _ in range(40):
            await asyncio.sleep(0.25)
            assert condition(await world.service(), "Ready").status == "True"
        assert world.shares() == {"1": (100, 4)}


async def test_a_service_that_is_stopped_has_no_pods_and_says_so() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris())
        await asyncio.sleep(30)
        stop = {"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}}
        await world.cluster.patch(InferenceService, "iris", "default", stop)
        await asyncio.sleep(30)
        assert not await world.pods()
        assert condition(await world.service(), "Stopped").status == "True"
        [route] = world.feed.table.services
        assert (route.phase, route.revisions) == ("Sleeping", ())
        start = {"metadata": {"annotations": {"serving.kserve.io/stop": None}}}
        await world.cluster.patch(InferenceService, "iris", "default", start)
        await asyncio.sleep(30)
        assert condition(await world.service(), "Ready").status == "True"


@pytest.mark.parametrize(
    ("predictor", "reason", "said"),
    [
        ({"model": {"modelFormat": {"name": "sklaern"}, "storageUri": "file:///m"}}, "NoSupportingRuntime", "sklearn"),
        ({"model": {"modelFormat": {"name": "x"}, "runtime": "penstock-cpo", "storageUri": "file:///m"}}, "RuntimeNotRecognized", "penstock-cpu"),
    ],
)  # fmt: skip
async def test_a_service_that_nothing_serves_says_what_would(predictor: Any, reason: str, said: str) -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris(**predictor))
        await asyncio.sleep(5)
        service = await world.service()
        assert service.status.model_status.transition_status == "InvalidSpec"
        info = service.status.model_status.last_failure_info
        assert (info.reason, said in info.message) == (reason, True)
        [route] = world.feed.table.services
        assert (route.phase, said in route.message) == ("Failed", True)


async def test_a_service_waits_for_the_storage_container_that_it_names() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris(storageContainerName="mine"))
        await asyncio.sleep(5)
        info = (await world.service()).status.model_status.last_failure_info
        assert "predictor.storageContainerName: ClusterStorageContainer 'mine' is not found" in info.message
        spec = {"container": {"name": "x", "image": "brings"}, "supportedUriFormats": [{"prefix": "mine://"}]}
        mine = msgspec.convert({"metadata": {"name": "mine"}, "spec": spec}, ClusterStorageContainer)
        await world.cluster.create(mine)
        await asyncio.sleep(30)
        assert condition(await world.service(), "Ready").status == "True"
        [pod] = await world.pods()
        assert [c.image for c in pod.spec.init_containers] == ["brings"]


async def test_a_model_that_cannot_be_fetched_says_how_to_see_why() -> None:
    async with ServiceWorld() as world:
        world.kubelet.start_s = 1e6
        await world.cluster.create(iris())
        await asyncio.sleep(2)
        [pod] = await world.pods()
        ended = ContainerStateTerminated(
            exit_code=3, reason="Error", message="file:///m: there is no such file or folder"
        )
        failed = ContainerStatus(
            name="storage-initializer",
            image="x",
            ready=False,
            restart_count=1,
            state=ContainerState(
                waiting=ContainerStateWaiting(reason="CrashLoopBackOff", message="back-off")
            ),
            last_state=ContainerState(terminated=ended),
        )
        status = msgspec.structs.replace(pod.status, phase="Pending", init_container_statuses=(failed,))
        await world.cluster.replace(msgspec.structs.replace(pod, status=status), subresource="status")
        await asyncio.sleep(2)
        info = (await world.service()).status.model_status.last_failure_info
        assert (info.reason, info.exit_code) == ("ModelLoadFailed", 3)
        assert "there is no such file or folder" in info.message
        assert "kubectl logs -n default" in info.message
        assert any(line.startswith("ModelLoadFailed") for line in await world.events())


async def test_a_removed_transformer_goes_and_its_numbers_are_not_used_again() -> None:
    code = {"containers": [{"name": "kserve-container", "image": "mine", "command": ["true"]}]}
    async with ServiceWorld() as world:
        await world.cluster.create(iris())
        await world.patch(InferenceService, "iris", {"spec": {"transformer": code}})
        await asyncio.sleep(30)
        assert [r.name for r in world.feed.table.services] == ["iris", "iris-predictor"]
        assert condition(await world.service(), "TransformerReady").status == "True"
        await world.patch(InferenceService, "iris", {"spec": {"transformer": None}})
        await asyncio.sleep(30)
        assert [p.metadata.labels["component"] for p in await world.pods()] == ["predictor"]
        assert world.shares() == {"1": (100, 1)}
        service = await world.service()
        assert condition(service, "TransformerReady") is None
        assert condition(service, "Ready").status == "True"
        assert service.status.components["transformer"].traffic == ()
        assert "RevisionDeleted: iris-transformer-00001" in await world.events()
        await world.patch(InferenceService, "iris", {"spec": {"transformer": code}})
        await asyncio.sleep(30)
        assert {d.metadata.name for d in (await world.cluster.list(Deployment)).items} == {
            "iris-predictor-00001", "iris-transformer-00002"
        }  # fmt: skip


async def test_a_deleted_service_takes_everything_with_it() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris())
        await asyncio.sleep(30)
        await world.cluster.delete(InferenceService, "iris", "default")
        await asyncio.sleep(30)
        assert not (await world.cluster.list(Deployment)).items
        assert not (await world.cluster.list(Pod)).items
        assert world.feed.table.services == ()
        with pytest.raises(NotFound):
            await world.service()
