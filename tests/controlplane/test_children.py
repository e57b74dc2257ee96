"""An owner's children are as it asks, and nobody else's are touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from penstock.controlplane.controllers.children import keep_children
from penstock.controlplane.informer import InformerCache
from penstock.host.cluster import EmbeddedCluster
from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.core import ConfigMap
from penstock.resources.meta import Resource
from penstock.resources.pod_autoscaler import PodAutoscaler, PodAutoscalerSpec, PodAutoscalerStatus
from penstock.testing.clock import LoopClock
from penstock.testing.factories import config_map, memory_cluster, meta, owned_by

pytestmark = pytest.mark.looptime


class Family:
    """An owner, and what it asks for."""

    def __init__(self, cluster: EmbeddedCluster, cache: InformerCache, owner: ConfigMap) -> None:
        self.cluster = cluster
        self.owner = owner
        self._cache = cache

    async def keep(self, *wished: Resource) -> tuple[str, ...]:
        done = await keep_children(self.cluster, self._cache, self.owner, (PodAutoscaler,), wished)
        await asyncio.sleep(0.01)
        return done

    async def child(self, name: str = "a") -> PodAutoscaler:
        return await self.cluster.get(PodAutoscaler, name, "default")

    def wish(self, name: str = "a", concurrency: int = 3, **fields: Any) -> PodAutoscaler:
        target = CrossVersionObjectReference(kind="Deployment", name=name)
        return PodAutoscaler(
            metadata=meta(name, owner_references=(owned_by(self.owner),), **fields),
            spec=PodAutoscalerSpec(scale_target_ref=target, container_concurrency=concurrency),
        )


@asynccontextmanager
async def family() -> AsyncIterator[Family]:
    cluster = memory_cluster()
    cache = InformerCache(cluster, LoopClock())
    cache.watch(PodAutoscaler, lambda before, after: None)
    owner = await cluster.create(config_map("owner"))
    task = asyncio.ensure_future(cache.run())
    try:
        await cache.wait_synced()
        yield Family(cluster, cache, owner)
    finally:
        task.cancel()


async def test_a_child_that_is_asked_for_is_created_once() -> None:
    async with family() as known:
        assert await known.keep(known.wish()) == ("PodAutoscaler a created",)
        assert await known.keep(known.wish()) == ()


async def test_a_wish_for_other_settings_changes_the_child_and_nothing_else_of_it() -> None:
    async with family() as known:
        await known.keep(known.wish(annotations={"x": "1", "y": "2"}))
        there = await known.child()
        status = PodAutoscalerStatus(desired_scale=7)
        await known.cluster.replace(msgspec.structs.replace(there, status=status), subresource="status")
        done = await known.keep(known.wish(concurrency=5, annotations={"y": "3"}))
        after = await known.child()
        assert done == ("PodAutoscaler a changed",)
        assert after.spec.container_concurrency == 5
        assert (after.metadata.annotations.get("x"), after.metadata.annotations["y"]) == (None, "3")
        assert after.status.desired_scale == 7


async def test_what_somebody_changed_by_hand_is_put_right() -> None:
    async with family() as known:
        await known.keep(known.wish())
        await known.cluster.patch(PodAutoscaler, "a", "default", {"spec": {"containerConcurrency": 99}})
        await asyncio.sleep(0.01)
        await known.keep(known.wish())
        assert (await known.child()).spec.container_concurrency == 3


async def test_what_somebody_added_is_left() -> None:
    async with family() as known:
        await known.keep(known.wish())
        await known.cluster.patch(PodAutoscaler, "a", "default", {"spec": {"reachability": "Reachable"}})
        await asyncio.sleep(0.01)
        assert await known.keep(known.wish()) == ()


async def test_a_child_that_is_not_asked_for_any_more_goes() -> None:
    async with family() as known:
        await known.keep(known.wish("a"), known.wish("b"))
        assert await known.keep(known.wish("b")) == ("PodAutoscaler a deleted",)


async def test_an_object_of_somebody_else_with_the_same_name_is_left_as_it_is() -> None:
    async with family() as known:
        other = await known.cluster.create(config_map("other"))
        theirs = msgspec.structs.replace(
            known.wish(), metadata=meta("a", owner_references=(owned_by(other),))
        )
        await known.cluster.create(theirs)
        await asyncio.sleep(0.01)
        assert await known.keep(known.wish(concurrency=9)) == ()
        assert await known.keep() == ()
        assert (await known.child()).spec.container_concurrency == 3
