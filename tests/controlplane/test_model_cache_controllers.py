"""Model caches end to end on a virtual clock: the store, the controllers of caches, nodes, Jobs, placement and services are the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from service_world import services

from penstock.contracts.controller import Controller
from penstock.contracts.node_caches import CachedModel, Download, downloads_of
from penstock.controlplane.controllers.cache_gate import CacheGateController
from penstock.controlplane.controllers.local_model_node import LocalModelNodeController
from penstock.controlplane.controllers.model_cache import ModelCacheController
from penstock.decide.caching import CACHE_LABEL
from penstock.decide.download_job import CONTAINER, JOB_NAMESPACE
from penstock.host.jobs import JobController
from penstock.host.placement import PlacementController
from penstock.kit.errors import Invalid, NotFound
from penstock.resources.caching import (
    LocalModelCache,
    LocalModelNamespaceCache,
    LocalModelNode,
    LocalModelNodeGroup,
)
from penstock.resources.core import Node
from penstock.resources.pod import Pod
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Job
from penstock.testing.world import World

pytestmark = pytest.mark.looptime
BRING_S = 5.0 + 10.0


class Disks:
    """What three nodes' disks would say: a model is there once its Job's pod has succeeded."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kept: dict[str, set[str]] = {}
        self.there: set[tuple[str, str]] = set()
        self.share = False

    @property
    def nodes(self) -> frozenset[str]:
        return frozenset(("a1", "a2", "b1"))

    async def look(self, node: str, uri: str) -> CachedModel:
        for pod in (await self.world.cluster.list(Pod, JOB_NAMESPACE)).items:
            if (
                pod.metadata.labels.get("node") == node
                and pod.spec.containers[0].args[0] == uri
                and pod.status.phase == "Succeeded"
            ):
                self.there.add((node, uri))
        download = Download(told="downloading 43 %", bytes_done=43, bytes_total=100)
        return CachedModel(is_ready=(node, uri) in self.there, download=download)

    async def keep(self, node: str, uris: Iterable[str]) -> tuple[str, ...]:
        wanted = set(uris)
        gone = self.kept.get(node, set()) - wanted
        self.kept[node] = wanted
        self.there -= {(node, uri) for uri in gone}
        return tuple(f"removed {uri}" for uri in sorted(gone))


class CacheWorld(World):
    """Nodes a1, a2 (group a) and b1 (group b), each group with room for 10 GB."""

    def __init__(self, *more: Callable[[World], Controller]) -> None:
        self.disks = Disks(self)
        super().__init__(
            *more,
            services,
            lambda world: ModelCacheController(*parts(world)),
            lambda world: LocalModelNodeController(*parts(world), caches=self.disks),
            lambda world: CacheGateController(*parts(world)),
            lambda world: JobController(*parts(world)),
            lambda world: PlacementController(*parts(world)),
        )
        self.kubelet.places = False
        self.kubelet.run_s = 10.0

    async def __aenter__(self) -> CacheWorld:
        for name in ("a1", "a2", "b1"):
            await self.make(
                Node,
                {
                    "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "pool": name[0]}},
                    "status": {
                        "conditions": [{"type": "Ready", "status": "True"}],
                        "allocatable": {"cpu": "8", "memory": "32Gi", "pods": "50"},
                    },
                },
            )
        for name in ("a", "b"):
            await self.make(LocalModelNodeGroup, group(name))
        await super().__aenter__()
        return self

    async def make(self, kind: type[Any], document: dict[str, Any]) -> Any:
        made = await self.cluster.create(msgspec.convert(document, kind))
        if "status" in document:
            status = msgspec.convert(document, kind).status
            return await self.cluster.replace(
                msgspec.structs.replace(made, status=status), subresource="status"
            )
        return made

    async def cache_of(self, name: str) -> LocalModelCache:
        return await self.cluster.get(LocalModelCache, name)

    async def jobs(self) -> list[Job]:
        return list((await self.cluster.list(Job, JOB_NAMESPACE)).items)


def parts(world: World) -> tuple[Any, ...]:
    return world.cluster, world.cache, world.recorder.named("caches"), world.clock


def group(name: str, limit: str = "10G") -> dict[str, Any]:
    term = {"matchExpressions": [{"key": "pool", "operator": "In", "values": [name]}]}
    return {
        "metadata": {"name": name},
        "spec": {
            "storageLimit": limit,
            "persistentVolumeSpec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}},
            "persistentVolumeClaimSpec": {},
        },
    }


def cache(name: str, *groups: str, size: str = "6G", uri: str = "") -> dict[str, Any]:
    spec = {"sourceModelUri": uri or f"hf://o/{name}", "modelSize": size, "nodeGroups": list(groups)}
    return {"metadata": {"name": name}, "spec": spec}


def service(uri: str, **annotations: str) -> dict[str, Any]:
    container = {"name": "kserve-container", "image": "x", "ports": [{"containerPort": 8080}]}
    model = {"modelFormat": {"name": "own"}, "storageUri": uri, "runtime": "own"}
    assert container
    return {
        "metadata": {"name": "iris", "namespace": "default", "annotations": annotations},
        "spec": {"predictor": {"model": model, "minReplicas": 1}},
    }


RUNTIME: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "ClusterServingRuntime",
    "metadata": {"name": "own"},
    "spec": {
        "supportedModelFormats": [{"name": "own", "autoSelect": True}],
        "containers": [{"name": "kserve-container", "image": "x", "command": ["x"]}],
    },
}


async def test_a_model_is_brought_to_every_node_of_its_groups_by_one_job_each() -> None:
    async with CacheWorld() as world:
        await world.make(LocalModelCache, cache("m", "a", "b"))
        await asyncio.sleep(2)
        jobs = await world.jobs()
        assert sorted(job.metadata.labels["node"] for job in jobs) == ["a1", "a2", "b1"]
        assert {job.spec.template.spec.containers[0].name for job in jobs} == {CONTAINER}
        await asyncio.sleep(BRING_S + 62)
        status = (await world.cache_of("m")).status
        assert set(status.node_status.values()) == {"NodeDownloaded"}
        assert status.copies is not None
        assert (status.copies.available, status.copies.total, status.copies.failed) == (3, 3, 0)
        assert (await world.cluster.get(LocalModelNodeGroup, "a")).status.used == "6000000000"
        assert any(line.startswith("ModelCached: 3 nodes") for line in await world.events())


async def test_a_download_is_told_in_words_and_in_numbers_for_as_long_as_it_takes() -> None:
    async with CacheWorld() as world:
        await world.make(LocalModelCache, cache("m", "b"))
        await asyncio.sleep(8)
        (node,) = (await world.cluster.list(LocalModelNode)).items
        known = downloads_of(node.metadata.annotations)
        assert (known["m"].told, known["m"].bytes_done, known["m"].bytes_total) == (
            "downloading 43 %",
            43,
            100,
        )
        await asyncio.sleep(BRING_S + 62)
        (node,) = (await world.cluster.list(LocalModelNode)).items
        assert not downloads_of(node.metadata.annotations)


async def test_where_nodes_share_one_brings_the_model_and_the_others_wait_for_it() -> None:
    async with CacheWorld() as world:
        world.disks.share = True
        await world.make(LocalModelCache, cache("m", "a", "b"))
        await asyncio.sleep(5)
        assert [job.metadata.labels["node"] for job in await world.jobs()] == ["a1"]
        await asyncio.sleep(BRING_S + 3)
        assert len(await world.jobs()) == 3
        await asyncio.sleep(BRING_S + 70)
        assert set((await world.cache_of("m")).status.node_status.values()) == {"NodeDownloaded"}


async def test_a_node_that_cannot_bring_it_loses_its_turn() -> None:
    async with CacheWorld() as world:
        world.disks.share = True
        world.kubelet.exit_code = lambda pod: 4 if pod.metadata.labels.get("node") == "a1" else 0
        await world.make(LocalModelCache, cache("m", "a"))
        await asyncio.sleep(3 * BRING_S)
        status = (await world.cache_of("m")).status.node_status
        assert status["a2"] == "NodeDownloaded"


async def test_a_full_group_refuses_a_cache_with_the_numbers() -> None:
    async with CacheWorld() as world:
        await world.make(LocalModelCache, cache("m", "a"))
        with pytest.raises(Invalid, match="asks for 6000000000 bytes, 6000000000 of 10000000000 are used"):
            await world.make(LocalModelCache, cache("n", "a"))
        await world.make(LocalModelCache, cache("n", "b"))


async def test_a_group_that_shrinks_keeps_what_is_there_and_brings_nothing_more() -> None:
    async with CacheWorld() as world:
        await world.make(LocalModelCache, cache("m", "a", size="4G"))
        await asyncio.sleep(BRING_S + 62)
        await world.cluster.patch(LocalModelNodeGroup, "a", "", {"spec": {"storageLimit": "8G"}})
        await world.make(LocalModelCache, cache("n", "a", size="4G"))
        await world.cluster.patch(LocalModelNodeGroup, "a", "", {"spec": {"storageLimit": "5G"}})
        await asyncio.sleep(2)
        assert set((await world.cache_of("m")).status.node_status.values()) == {"NodeDownloaded"}
        assert set((await world.cache_of("n")).status.node_status.values()) == {"NodeDownloadError"}
        assert any(
            "NodeGroupRefused: node group a has no room: n asks" in line for line in await world.events()
        )
        assert world.disks.kept["a1"] == {"hf://o/m"}


async def test_a_second_cache_of_an_address_is_refused_and_a_namespaced_one_needs_its_groups() -> None:
    async with CacheWorld() as world:
        await world.make(LocalModelCache, cache("m", "a"))
        with pytest.raises(Invalid, match="LocalModelCache m has the same StorageURI hf://o/m"):
            await world.make(LocalModelCache, cache("n", "b", uri="hf://o/m"))
        document = cache("own", "zz")
        document["metadata"]["namespace"] = "default"
        with pytest.raises(Invalid, match="NodeGroup zz not found"):
            await world.make(LocalModelNamespaceCache, document)


async def test_removing_one_group_leaves_the_others() -> None:
    async with CacheWorld() as world:
        await world.make(LocalModelCache, cache("m", "a", "b"))
        await asyncio.sleep(BRING_S + 62)
        await world.cluster.patch(LocalModelCache, "m", "", {"spec": {"nodeGroups": ["b"]}})
        await asyncio.sleep(3)
        assert world.disks.there == {("b1", "hf://o/m")}
        assert (await world.cache_of("m")).status.node_status == {"b1": "NodeDownloaded"}
        await world.cluster.delete(LocalModelCache, "m")
        await asyncio.sleep(3)
        assert world.disks.there == set()
        with pytest.raises(NotFound):
            await world.cache_of("m")


async def test_a_failed_download_is_tried_again_by_itself() -> None:
    async with CacheWorld() as world:
        tries: list[str] = []

        def code(pod: Pod) -> int:
            tries.append(pod.metadata.name)
            return 0 if len(tries) > 1 else 4

        world.kubelet.exit_code = code
        await world.make(LocalModelCache, cache("m", "b"))
        await asyncio.sleep(BRING_S + 2)
        assert (await world.cache_of("m")).status.node_status == {"b1": "NodeDownloadError"}
        await asyncio.sleep(120)
        assert (await world.cache_of("m")).status.node_status == {"b1": "NodeDownloaded"}
        assert len(tries) == 2
        (node,) = (await world.cluster.list(LocalModelNode)).items
        assert node.status.model_status == {"m": "ModelDownloaded"}


async def test_a_pod_waits_at_the_gate_says_so_and_goes_where_the_model_is() -> None:
    async with CacheWorld() as world:
        world.kubelet.run_s = None
        await world.cluster.create(_runtime())
        await world.make(LocalModelCache, cache("m", "b"))
        await world.make(InferenceService, service("hf://o/m"))
        await asyncio.sleep(5)
        (pod,) = await world.pods()
        assert pod.spec.node_name == ""
        (waiting,) = [c for c in pod.status.conditions if c.type == "PodScheduled"]
        assert waiting.message.startswith("waiting for model cache m: 0 of 1 nodes of b hold it (b1: ")
        with pytest.raises(Invalid, match="LocalModelCache m is being used by InferenceService iris"):
            await world.cluster.delete(LocalModelCache, "m")
        (job_pod,) = (await world.cluster.list(Pod, JOB_NAMESPACE)).items
        status = msgspec.structs.replace(job_pod.status, phase="Succeeded")
        await world.cluster.replace(msgspec.structs.replace(job_pod, status=status), subresource="status")
        await asyncio.sleep(70)
        (pod,) = await world.pods()
        assert pod.spec.node_name == "b1"
        made = await world.cluster.get(InferenceService, "iris", "default")
        assert made.metadata.labels[CACHE_LABEL] == "m"
        await world.cluster.delete(InferenceService, "iris", "default")
        await asyncio.sleep(10)
        assert set((await world.cache_of("m")).status.node_status.values()) == {"NodeDownloaded"}


async def test_a_cache_that_comes_later_restarts_nothing() -> None:
    async with CacheWorld() as world:
        world.kubelet.run_s = None
        await world.cluster.create(_runtime())
        await world.make(InferenceService, service("hf://o/m"))
        await asyncio.sleep(10)
        (before,) = await world.pods()
        await world.make(LocalModelCache, cache("m", "b"))
        await asyncio.sleep(10)
        (after,) = await world.pods()
        assert before.metadata.uid == after.metadata.uid


def _runtime() -> Any:
    from penstock.resources.admission import admit

    return admit(RUNTIME).object
