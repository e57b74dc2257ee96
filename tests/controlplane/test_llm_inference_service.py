"""From an LLMInferenceService to traffic: every controller of services over the real store, with a kubelet that only pretends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from service_world import ServiceWorld

from penstock.contracts.controller import Controller
from penstock.controlplane.controllers.llm_inference_service import LLMInferenceServiceController
from penstock.resources.admission import admit
from penstock.resources.llm import LLMInferenceService
from penstock.resources.serving import InferenceService
from penstock.testing.world import World

pytestmark = pytest.mark.looptime


def llm_services(world: World) -> Controller:
    return LLMInferenceServiceController(
        world.cluster,
        world.cache,
        world.recorder.named("llm"),
        world.clock,
        gateway_addr="127.0.0.1:8080",
    )


def llm(**spec: Any) -> LLMInferenceService:
    document = {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": {
            "name": "opt",
            "namespace": "default",
            "annotations": {"penstock.dev/runtime": "penstock-sim"},
        },
        "spec": {
            "model": {"uri": "hf://a/b", "name": "a/b"},
            "storageInitializer": {"enabled": False},
            **spec,
        },
    }
    made = admit(document).object
    assert isinstance(made, LLMInferenceService)
    return made


async def test_both_roles_run_and_the_gateway_is_told_which_is_which() -> None:
    async with ServiceWorld(llm_services) as world:
        await world.cluster.create(llm(replicas=1, prefill={"replicas": 2}))
        await asyncio.sleep(30)
        [route] = world.feed.table.services
        assert (route.name, route.engine_model, "a/b" in route.aliases) == ("opt", "a/b", True)
        [revision] = route.revisions
        assert (len(revision.endpoints), len(revision.prefill)) == (1, 2)
        stored = await world.cluster.get(LLMInferenceService, "opt", "default")
        assert {one.type: one.status for one in stored.status.conditions} == {
            "MainWorkloadReady": "True",
            "PrefillWorkloadReady": "True",
            "PresetsCombined": "True",
            "Ready": "True",
            "RouterReady": "True",
            "WorkloadsReady": "True",
        }
        assert stored.status.url == "http://127.0.0.1:8080/serving/default/opt"


async def test_what_is_taken_out_of_it_goes_and_all_goes_with_it() -> None:
    async with ServiceWorld(llm_services) as world:
        await world.cluster.create(llm(prefill={}))
        await asyncio.sleep(30)
        await world.cluster.patch(LLMInferenceService, "opt", "default", {"spec": {"prefill": None}})
        await asyncio.sleep(30)
        assert [one.metadata.name for one in (await world.cluster.list(InferenceService)).items] == ["opt"]
        assert not world.feed.table.services[0].revisions[0].prefill
        await world.cluster.delete(LLMInferenceService, "opt", "default")
        await asyncio.sleep(30)
        assert not (await world.cluster.list(InferenceService)).items
        assert not world.feed.table.services


async def test_nothing_is_written_once_it_is_as_it_should_be() -> None:
    async with ServiceWorld(llm_services) as world:
        await world.cluster.create(llm(prefill={}))
        await asyncio.sleep(60)
        before = await world.cluster.get(LLMInferenceService, "opt", "default")
        child = await world.service("opt")
        await asyncio.sleep(60)
        assert await world.cluster.get(LLMInferenceService, "opt", "default") == before
        assert (await world.service("opt")).metadata == child.metadata


async def test_what_admission_refuses_is_said_in_the_status() -> None:
    async with ServiceWorld(llm_services) as world:
        blocked = {"containers": [{"name": "main", "env": [{"name": "PYTHONPATH", "value": "x"}]}]}
        await world.cluster.create(llm(template=blocked))
        await asyncio.sleep(10)
        stored = await world.cluster.get(LLMInferenceService, "opt", "default")
        [main] = [one for one in stored.status.conditions if one.type == "MainWorkloadReady"]
        assert (main.status, "PYTHONPATH" in main.message) == ("False", True)
        assert not (await world.cluster.list(InferenceService)).items
