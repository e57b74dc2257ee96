"""Services and LLMInferenceServices on several model caches, end to end on a virtual clock."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from test_model_cache_controllers import BRING_S, CacheWorld, _runtime, cache, group, parts, service

from penstock.contracts.model_bindings import SOURCES, bound_to
from penstock.controlplane.controllers.llm_inference_service import LLMInferenceServiceController
from penstock.decide.download_job import JOB_NAMESPACE
from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.caching import (
    LocalModelCache,
    LocalModelNamespaceCache,
    LocalModelNode,
    LocalModelNodeGroup,
)
from penstock.resources.core import Node, Secret
from penstock.resources.llm import LLMInferenceService
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Job

pytestmark = pytest.mark.looptime


class LlmWorld(CacheWorld):
    """With the controller of LLMInferenceServices, and pods that run until they are told otherwise."""

    def __init__(self) -> None:
        super().__init__(
            lambda world: LLMInferenceServiceController(*parts(world), gateway_addr="127.0.0.1:8080")
        )
        self.kubelet.run_s = None

    async def bring(self) -> None:
        """Every download that is on its way succeeds."""
        for pod in (await self.cluster.list(Pod, JOB_NAMESPACE)).items:
            status = msgspec.structs.replace(pod.status, phase="Succeeded")
            await self.cluster.replace(msgspec.structs.replace(pod, status=status), subresource="status")
        await asyncio.sleep(70)

    async def served(self) -> list[Pod]:
        return [pod for pod in await self.pods() if pod.metadata.deletion_timestamp is None]


def several(*uris: str) -> dict[str, Any]:
    document = service("")
    del document["spec"]["predictor"]["model"]["storageUri"]
    document["spec"]["predictor"]["storageUris"] = [
        {"uri": uri, "mountPath": f"/mnt/{index}"} for index, uri in enumerate(uris)
    ]
    return document


def llm(**extra: Any) -> LLMInferenceService:
    document = {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": {"name": "llm", "namespace": "default", "annotations": {"penstock.dev/runtime": "own"}},
        "spec": {"model": {"uri": "hf://o/m/sub", "name": "o/m"}, "replicas": 1, **extra},
    }
    made = admit(document).object
    assert isinstance(made, LLMInferenceService)
    return made


async def test_a_service_of_two_models_waits_for_both_and_goes_where_both_are() -> None:
    async with LlmWorld() as world:
        await world.cluster.create(_runtime())
        await world.make(LocalModelCache, cache("m", "a", "b", size="4G"))
        await world.make(LocalModelCache, cache("n", "b", size="4G"))
        await world.make(InferenceService, several("hf://o/m", "hf://o/n/adapter", "s3://b/loose"))
        await asyncio.sleep(5)
        (pod,) = await world.served()
        (waiting,) = [c for c in pod.status.conditions if c.type == "PodScheduled"]
        assert "model cache m" in waiting.message
        assert "model cache n" in waiting.message
        await world.bring()
        (pod,) = await world.served()
        assert pod.spec.node_name == "b1"
        (fetch,) = pod.spec.init_containers
        (sources,) = [env.value for env in fetch.env if env.name == SOURCES]
        assert json.loads(sources or "") == ["hf://o/m", "hf://o/n"]
        for name in ("m", "n"):
            assert [one.name for one in (await world.cache_of(name)).status.inference_services] == ["iris"]
            with pytest.raises(
                Invalid, match=f"LocalModelCache {name} is being used by InferenceService iris"
            ):
                await world.cluster.delete(LocalModelCache, name)


async def test_an_llm_service_is_bound_as_any_other_and_stays_so_when_it_changes() -> None:
    async with LlmWorld() as world:
        await world.cluster.create(_runtime())
        await world.make(LocalModelCache, cache("m", "b"))
        await world.cluster.create(llm())
        await asyncio.sleep(5)
        await world.bring()
        (before,) = await world.served()
        assert before.spec.node_name == "b1"
        status = (await world.cache_of("m")).status
        assert [one.name for one in status.llm_inference_services] == ["llm"]
        assert not status.inference_services
        with pytest.raises(Invalid, match="LocalModelCache m is being used by LLMInferenceService llm"):
            await world.cluster.delete(LocalModelCache, "m")
        scaled = {"spec": {"replicas": None, "scaling": {"minReplicas": 1, "maxReplicas": 3}}}
        await world.cluster.patch(LLMInferenceService, "llm", "default", scaled)
        await asyncio.sleep(20)
        child = await world.cluster.get(InferenceService, "llm", "default")
        assert child.spec.predictor.max_replicas == 3
        assert [one.cache for one in bound_to(child.metadata.annotations)] == ["m"]
        (after,) = await world.served()
        assert after.metadata.uid == before.metadata.uid


async def test_the_group_of_a_service_is_left_only_when_the_cache_leaves_it() -> None:
    async with LlmWorld() as world:
        await world.cluster.create(_runtime())
        await world.make(LocalModelCache, cache("m", "a", "b"))
        await world.make(InferenceService, service("hf://o/m", **{"serving.kserve.io/nodegroup": "b"}))
        await asyncio.sleep(5)
        await world.bring()
        (pod,) = await world.served()
        assert pod.spec.node_name == "b1"
        note = {"metadata": {"annotations": {"serving.kserve.io/nodegroup": None}}}
        await world.cluster.patch(InferenceService, "iris", "default", note)
        await asyncio.sleep(10)
        made = await world.cluster.get(InferenceService, "iris", "default")
        assert [one.group for one in bound_to(made.metadata.annotations)] == ["b"]
        await world.cluster.patch(LocalModelCache, "m", "", {"spec": {"nodeGroups": ["a"]}})
        await asyncio.sleep(30)
        made = await world.cluster.get(InferenceService, "iris", "default")
        assert [one.group for one in bound_to(made.metadata.annotations)] == ["a"]
        (pod,) = await world.served()
        assert pod.spec.node_name in ("a1", "a2")


async def test_a_node_that_disappears_in_mid_download_is_forgotten_and_begins_anew_when_it_returns() -> None:
    async with CacheWorld() as world:
        await world.make(LocalModelCache, cache("m", "a"))
        await asyncio.sleep(4)
        assert (await world.cache_of("m")).status.node_status["a1"] == "NodeDownloading"
        gone = await world.cluster.get(Node, "a1")
        await world.cluster.delete(Node, "a1")
        await asyncio.sleep(BRING_S + 65)
        status = (await world.cache_of("m")).status
        assert status.node_status == {"a2": "NodeDownloaded"}
        assert status.copies is not None
        assert (status.copies.available, status.copies.total) == (1, 1)
        assert [one.metadata.name for one in (await world.cluster.list(LocalModelNode)).items] == ["a2"]
        assert {job.metadata.labels["node"] for job in await world.jobs()} == {"a2"}
        world.disks.there.discard(("a1", "hf://o/m"))
        await world.make(Node, msgspec.to_builtins(msgspec.structs.replace(gone, metadata=_named(gone))))
        await asyncio.sleep(2 * BRING_S + 65)
        assert set((await world.cache_of("m")).status.node_status) == {"a1", "a2"}
        assert set((await world.cache_of("m")).status.node_status.values()) == {"NodeDownloaded"}


async def test_a_group_that_takes_in_another_node_brings_the_model_there() -> None:
    async with CacheWorld() as world:
        await world.make(LocalModelCache, cache("m", "a"))
        await asyncio.sleep(BRING_S + 65)
        term = {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["a", "b"]}]}
        affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}
        await world.cluster.patch(LocalModelNodeGroup, "a", "", {"spec": {"persistentVolumeSpec": affinity}})
        await asyncio.sleep(BRING_S + 65)
        assert set((await world.cache_of("m")).status.node_status) == {"a1", "a2", "b1"}
        await world.cluster.patch(LocalModelNodeGroup, "a", "", {"spec": group("a")["spec"]})
        await asyncio.sleep(5)
        assert set((await world.cache_of("m")).status.node_status) == {"a1", "a2"}
        assert world.disks.kept["b1"] == set()


async def test_a_service_that_names_its_model_by_key_and_path_is_bound_by_the_address_that_they_mean() -> (
    None
):
    async with LlmWorld() as world:
        await world.cluster.create(_runtime())
        config = json.dumps({"type": "s3", "bucket": "models", "access_key_id": "me"})
        await world.cluster.create(
            Secret(
                metadata=ObjectMeta(name="storage-config", namespace="default"),
                string_data={"minio": config},
            )
        )
        await world.make(LocalModelCache, cache("m", "b", uri="s3://models/m"))
        document = service("")
        model = document["spec"]["predictor"]["model"]
        del model["storageUri"]
        model["storage"] = {"key": "minio", "path": "m/part"}
        await world.make(InferenceService, document)
        await asyncio.sleep(5)
        await world.bring()
        (pod,) = await world.served()
        assert pod.spec.node_name == "b1"
        (fetch,) = pod.spec.init_containers
        assert fetch.args[0] == "s3://models/m/part"
        assert {"STORAGE_CONFIG", SOURCES} <= {env.name for env in fetch.env}
        made = await world.cluster.get(InferenceService, "iris", "default")
        assert made.spec.predictor.model is not None
        assert made.spec.predictor.model.storage_uri is None, "what the user wrote stays"


async def test_a_key_that_the_secret_has_not_fails_the_service_in_words() -> None:
    async with LlmWorld() as world:
        await world.cluster.create(_runtime())
        document = service("")
        model = document["spec"]["predictor"]["model"]
        del model["storageUri"]
        model["storage"] = {"key": "minio", "path": "m"}
        await world.make(InferenceService, document)
        await asyncio.sleep(5)
        made = await world.cluster.get(InferenceService, "iris", "default")
        assert "Secret storage-config is not there" in str(made.status)
        assert not await world.served()


async def test_a_namespaces_own_cache_is_brought_with_the_credentials_of_that_namespace() -> None:
    async with CacheWorld() as world:
        await world.cluster.create(
            Secret(
                metadata=ObjectMeta(name="storage-config", namespace="default"),
                string_data={"minio": json.dumps({"type": "s3"})},
            )
        )
        document = cache("own", "b")
        document["metadata"]["namespace"] = "default"
        document["spec"]["storage"] = {"key": "minio", "parameters": {"region": "eu"}}
        await world.make(LocalModelNamespaceCache, document)
        await asyncio.sleep(3)
        (job,) = (await world.cluster.list(Job, "default")).items
        env = job.spec.template.spec.containers[0].env
        assert {"STORAGE_CONFIG", "STORAGE_OVERRIDE_CONFIG"} <= {one.name for one in env}
        (node,) = (await world.cluster.list(LocalModelNode)).items
        assert node.status.model_status == {"default/own": "ModelDownloading"}
        await world.cluster.delete(LocalModelNamespaceCache, "own", "default")
        await asyncio.sleep(5)
        assert not (await world.cluster.list(Job, "default")).items


def _named(node: Node) -> Any:
    return type(node.metadata)(name=node.metadata.name, labels=node.metadata.labels)
