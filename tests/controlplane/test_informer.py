"""The cache follows the cluster whatever happens to its watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from penstock.contracts.cluster import Change
from penstock.controlplane.informer import InformerCache
from penstock.host.cluster import EmbeddedCluster
from penstock.kit.errors import Unavailable
from penstock.kit.tasks import end
from penstock.resources.core import ConfigMap, Secret
from penstock.resources.meta import Resource
from penstock.testing.clock import LoopClock
from penstock.testing.factories import config_map, memory_cluster, namespace, secret

pytestmark = pytest.mark.looptime


@contextmanager
def running(cache: InformerCache) -> Iterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(cache.run())
    try:
        yield task
    finally:
        task.cancel()


async def settle() -> None:
    await asyncio.sleep(0.01)


async def test_reads_what_is_there_then_every_change() -> None:
    cluster, seen = memory_cluster(), []
    cache = InformerCache(cluster, LoopClock())
    cache.watch(ConfigMap, lambda before, after: seen.append((before is None, after is None)))
    await cluster.create(config_map("a"))
    with running(cache):
        await cache.wait_synced()
        assert cache.get(ConfigMap, "a", "default") is not None
        await cluster.create(config_map("b"))
        await cluster.patch(ConfigMap, "a", "default", {"data": {"key": "new"}})
        await cluster.delete(ConfigMap, "b", "default")
        await settle()
        assert cache.get(ConfigMap, "a", "default").data == {"key": "new"}
        assert cache.get(ConfigMap, "b", "default") is None
        assert seen == [(True, False), (True, False), (False, False), (False, True)]


async def test_lists_in_order_by_namespace_and_label() -> None:
    cluster = memory_cluster()
    cache = InformerCache(cluster, LoopClock())
    cache.watch(ConfigMap, lambda before, after: None)
    await cluster.create(namespace("other"))
    for name, place, color in (("b", "default", "red"), ("a", "default", "blue"), ("c", "other", "red")):
        await cluster.create(config_map(name, place, labels={"color": color}))
    with running(cache):
        await cache.wait_synced()
        assert [m.metadata.name for m in cache.list(ConfigMap, "default")] == ["a", "b"]
        assert [m.metadata.name for m in cache.list(ConfigMap, labels="color=red")] == ["b", "c"]


async def test_a_watch_that_is_too_old_is_made_good_by_a_new_list() -> None:
    cluster = memory_cluster(history_steps=4)
    cache, changes = InformerCache(cluster, LoopClock()), []
    cache.watch(ConfigMap, lambda before, after: changes.append((before, after)))
    await cluster.create(config_map("goes"))
    with running(cache):
        await cache.wait_synced()
        await cluster.delete(ConfigMap, "goes", "default")
        for number in range(20):
            await cluster.create(config_map(f"m{number}"))
        await settle()
        assert len(cache.list(ConfigMap)) == 20
        assert changes[1][1] is None, "the deletion that fell out of history is told"


class Failing:
    """A cluster that is away at times, and once sends what cannot be read."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.cluster = cluster
        self.away = True
        self.lists = 0

    async def list(self, kind: type[Any], *args: Any, **kwargs: Any) -> Any:
        self.lists += 1
        if self.away:
            raise Unavailable("away")
        return await self.cluster.list(kind, *args, **kwargs)

    async def watch(self, kind: type[Any], *args: Any, **kwargs: Any) -> AsyncIterator[Change[Any]]:
        async for change in self.cluster.watch(kind, *args, **kwargs):
            yield change
            raise ValueError("a line that cannot be read")


async def test_a_cluster_that_is_away_is_asked_again_ever_more_slowly() -> None:
    failing = Failing(memory_cluster())
    cache = InformerCache(failing, LoopClock())  # type: ignore[arg-type]
    cache.watch(ConfigMap, lambda before, after: None)
    with running(cache):
        await asyncio.sleep(120)
        assert 8 < failing.lists < 16
        failing.away = False
        await cache.wait_synced()


async def test_a_watch_that_breaks_is_begun_anew_and_misses_nothing() -> None:
    failing = Failing(memory_cluster())
    failing.away = False
    cache = InformerCache(failing, LoopClock())  # type: ignore[arg-type]
    cache.watch(ConfigMap, lambda before, after: None)
    with running(cache):
        await cache.wait_synced()
        for number in range(5):
            await failing.cluster.create(config_map(f"m{number}"))
        await asyncio.sleep(60)
        assert len(cache.list(ConfigMap)) == 5


async def test_a_listener_that_fails_holds_up_no_other_kind() -> None:
    cluster = memory_cluster()
    cache = InformerCache(cluster, LoopClock())

    def broken(before: Resource | None, after: Resource | None) -> None:
        raise ValueError("broken")

    cache.watch(ConfigMap, broken)
    cache.watch(Secret, lambda before, after: None)
    await cluster.create(config_map("a"))
    task = asyncio.ensure_future(cache.run())
    await cache.wait_synced([Secret])
    await cluster.create(secret("s", key="x"))
    await settle()
    assert cache.get(Secret, "s", "default") is not None
    await end([task])
