"""Where a key stands is told in its status, and changes with time, tenants and revocation; in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from penstock.controlplane.controllers.api_keys import ApiKeyController
from penstock.controlplane.feed import Feed
from penstock.controlplane.routes import RouteController
from penstock.kit.timestamps import rfc3339
from penstock.resources.access import ApiKey, IssuedToken, Tenant
from penstock.resources.meta import ObjectMeta
from penstock.testing.world import World, condition

pytestmark = pytest.mark.looptime
HASHES = ("ab" * 32, "cd" * 32)


class KeyWorld(World):
    """With the feed, whose table can be looked at."""

    def __init__(self) -> None:
        def keys(world: World) -> ApiKeyController:
            return ApiKeyController(world.cluster, world.cache, world.recorder.named("keys"), world.clock)

        def routes(world: World) -> RouteController:
            self.feed = Feed(world.clock)
            return RouteController(world.cache, self.feed, world.clock)

        super().__init__(keys, routes)

    async def __aenter__(self) -> KeyWorld:
        await super().__aenter__()
        return self

    async def issue(self, *ends_in_s: float | None) -> None:
        """Give the key a hash for each end."""
        tokens = tuple(
            IssuedToken(hash=hash, expires_at=None if end is None else rfc3339(self.clock.now() + end))
            for hash, end in zip(HASHES, ends_in_s, strict=False)
        )
        key = await self.key()
        status = msgspec.structs.replace(key.status, id="abc", hashes=tokens)
        await self.cluster.replace(msgspec.structs.replace(key, status=status), subresource="status")

    async def make(self, **spec: Any) -> None:
        document = {"metadata": {"name": "app", "namespace": "default"}, "spec": spec}
        await self.cluster.create(msgspec.convert(document, ApiKey))

    async def key(self) -> ApiKey:
        return await self.cluster.get(ApiKey, "app", "default")

    async def phase(self) -> str:
        """Once everything that follows from now has happened."""
        await asyncio.sleep(0.5)
        return (await self.key()).status.phase

    def told(self) -> list[str]:
        return [key.name for key in self.feed.table.keys]


async def test_a_key_is_pending_until_it_has_a_token_and_then_gateways_are_told() -> None:
    async with KeyWorld() as world:
        await world.make()
        assert (await world.phase(), world.told()) == ("Pending", [])
        await world.issue(None)
        assert (await world.phase(), world.told()) == ("Active", ["app"])
        ready = condition(await world.key(), "Ready")
        assert ready is not None
        assert (ready.status, ready.reason) == ("True", "Active")


async def test_revocation_deletion_and_taking_back_reach_the_table_at_once() -> None:
    async with KeyWorld() as world:
        await world.make()
        await world.issue(None)
        assert await world.phase() == "Active"
        await world.patch(ApiKey, "app", {"spec": {"disabled": True}})
        await asyncio.sleep(0.05)
        assert world.told() == []
        assert await world.phase() == "Revoked"
        await world.patch(ApiKey, "app", {"spec": {"disabled": False}})
        assert (await world.phase(), world.told()) == ("Active", ["app"])
        await world.cluster.delete(ApiKey, "app", "default")
        await asyncio.sleep(0.05)
        assert world.told() == []


async def test_a_key_expires_by_itself() -> None:
    async with KeyWorld() as world:
        await world.make(expiresAt=rfc3339(world.clock.now() + 100))
        await world.issue(None)
        assert await world.phase() == "Active"
        await asyncio.sleep(100)
        assert await world.phase() == "Expired"
        assert "Expired: it expired" in " ".join(await world.events())


async def test_an_older_token_is_swept_out_when_its_overlap_is_over() -> None:
    async with KeyWorld() as world:
        await world.make()
        await world.issue(None, 100)
        assert await world.phase() == "Active"
        assert len((await world.key()).status.hashes) == 2
        await asyncio.sleep(100)
        assert await world.phase() == "Active"
        assert [one.hash for one in (await world.key()).status.hashes] == [HASHES[0]]
        assert [one.hash for one in world.feed.table.keys[0].hashes] == [HASHES[0]]


async def test_a_key_does_not_work_without_its_tenant() -> None:
    async with KeyWorld() as world:
        await world.make(tenant="acme")
        await world.issue(None)
        assert (await world.phase(), world.told()) == ("Pending", [])
        tenant = Tenant(metadata=ObjectMeta(name="acme"))
        await world.cluster.create(tenant)
        assert (await world.phase(), world.told()) == ("Active", ["app"])
        assert [one.name for one in world.feed.table.tenants] == ["acme"]
        await world.cluster.delete(Tenant, "acme")
        assert (await world.phase(), world.told()) == ("Pending", [])


async def test_an_expired_key_keeps_its_hashes_so_that_a_later_end_brings_it_back() -> None:
    async with KeyWorld() as world:
        await world.make(expiresAt=rfc3339(world.clock.now() - 10))
        await world.issue(None)
        assert await world.phase() == "Expired"
        await world.patch(ApiKey, "app", {"spec": {"expiresAt": None}})
        assert (await world.phase(), world.told()) == ("Active", ["app"])
