"""An objective says whether its pool is there; a service is told when the profile that it names does not hold."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from penstock.controlplane.controllers.references import ObjectiveController, RoutingProfileController
from penstock.resources.core import Event
from penstock.resources.objective import InferenceObjective
from penstock.resources.routing import RoutingProfile
from penstock.resources.serving import InferenceService
from penstock.testing.world import World, condition

pytestmark = pytest.mark.looptime


def made(kind: Any, name: str, **fields: Any) -> Any:
    document = {"metadata": {"name": name, "namespace": "default", **fields.pop("metadata", {})}, **fields}
    return msgspec.convert(document, kind)


def service(name: str, profile: str = "") -> InferenceService:
    annotations = {"penstock.dev/routing-profile": profile} if profile else {}
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://a/b"}
    spec = {"predictor": {"model": model}}
    return made(InferenceService, name, metadata={"annotations": annotations}, spec=spec)


class References(World):
    def __init__(self) -> None:
        def objectives(world: World) -> ObjectiveController:
            return ObjectiveController(world.cluster, world.cache, world.recorder.named("o"), world.clock)

        def profiles(world: World) -> RoutingProfileController:
            return RoutingProfileController(world.cache, world.recorder.named("p"))

        super().__init__(objectives, profiles)

    async def __aenter__(self) -> References:
        await super().__aenter__()
        return self

    async def told(self) -> list[Event]:
        await asyncio.sleep(1)
        every = (await self.cluster.list(Event, "default")).items
        return [event for event in every if event.reason == "RoutingProfileNotUsed"]

    async def accepted(self, name: str) -> tuple[str, str, str]:
        await asyncio.sleep(0.5)
        found = condition(await self.cluster.get(InferenceObjective, name, "default"), "Accepted")
        assert found is not None
        return found.status, found.reason, found.message


@pytest.mark.parametrize("pool", ["m", "m-inference-pool"])
async def test_an_objective_is_accepted_as_long_as_its_service_is_there(pool: str) -> None:
    async with References() as world:
        await world.cluster.create(
            made(InferenceObjective, "urgent", spec={"priority": 5, "poolRef": {"name": pool}})
        )
        status, reason, message = await world.accepted("urgent")
        assert (status, reason) == ("False", "PoolNotFound")
        assert "InferenceService m " in message
        await world.cluster.create(service("m"))
        status, reason, message = await world.accepted("urgent")
        assert (status, reason) == ("True", "Accepted")
        assert "priority 5" in message
        await world.cluster.delete(InferenceService, "m", "default")
        assert (await world.accepted("urgent"))[:2] == ("False", "PoolNotFound")


async def test_a_service_is_told_once_that_its_profile_is_not_there_and_no_more_when_it_is() -> None:
    async with References() as world:
        await world.cluster.create(service("plain"))
        await world.cluster.create(service("m", profile="fast"))
        (event,) = await world.told()
        assert event.involved_object.name == "m"
        assert "there is no RoutingProfile 'fast' in this namespace" in event.message
        assert event.message.endswith("the built-in profile holds")
        await world.cluster.create(made(RoutingProfile, "fast", spec={}))
        assert sum(event.count for event in await world.told()) == 1
        await world.cluster.delete(RoutingProfile, "fast", "default")
        assert sum(event.count for event in await world.told()) == 2
