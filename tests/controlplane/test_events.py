"""Events are folded, bounded and cleared away, and never stop who records them."""

from __future__ import annotations

import asyncio

import pytest

from penstock.controlplane import events as module
from penstock.controlplane.events import EventRecorder
from penstock.host.cluster import EmbeddedCluster
from penstock.kit.errors import Unavailable
from penstock.kit.tasks import end
from penstock.resources.core import Event
from penstock.testing.clock import LoopClock
from penstock.testing.factories import config_map, memory_cluster, node

pytestmark = pytest.mark.looptime


async def recorded(cluster: EmbeddedCluster) -> list[Event]:
    return list((await cluster.list(Event)).items)


async def test_an_event_names_its_object_its_source_and_its_time() -> None:
    cluster = memory_cluster()
    recorder = EventRecorder(cluster, LoopClock())
    thing = await cluster.create(config_map("a"))
    recorder.named("placement").event(thing, "Warning", "FailedScheduling", "no room")
    await recorder.flush()
    [event] = await recorded(cluster)
    about = event.involved_object
    assert (about.kind, about.namespace, about.name, about.uid) == (
        "ConfigMap",
        "default",
        "a",
        thing.metadata.uid,
    )
    assert (event.type, event.reason, event.message) == ("Warning", "FailedScheduling", "no room")
    assert event.source.component == "placement"
    assert event.first_timestamp == event.last_timestamp is not None
    assert event.count == 1


async def test_the_same_said_again_raises_the_count_also_after_a_restart() -> None:
    cluster = memory_cluster()
    thing = await cluster.create(config_map("a"))
    for _ in range(2):
        recorder = EventRecorder(cluster, LoopClock())
        for _ in range(3):
            recorder.named("x").event(thing, "Normal", "Again", "same")
        await recorder.flush()
        await asyncio.sleep(60)
    recorder.named("x").event(thing, "Normal", "Again", "other")
    await recorder.flush()
    counts = {event.message: event.count for event in await recorded(cluster)}
    assert counts == {"same": 6, "other": 1}
    same = next(event for event in await recorded(cluster) if event.message == "same")
    assert same.first_timestamp != same.last_timestamp


async def test_an_event_that_somebody_deleted_is_written_anew() -> None:
    cluster = memory_cluster()
    recorder = EventRecorder(cluster, LoopClock())
    thing = await cluster.create(config_map("a"))
    recorder.named("x").event(thing, "Normal", "R", "m")
    await recorder.flush()
    [event] = await recorded(cluster)
    await cluster.delete(Event, event.metadata.name, "default")
    recorder.named("x").event(thing, "Normal", "R", "m")
    await recorder.flush()
    assert [event.count for event in await recorded(cluster)] == [1]


async def test_events_of_things_without_a_namespace_are_in_default() -> None:
    cluster = memory_cluster()
    recorder = EventRecorder(cluster, LoopClock())
    recorder.named("x").event(await cluster.create(node("n")), "Normal", "R", "m")
    await recorder.flush()
    assert [event.metadata.namespace for event in await recorded(cluster)] == ["default"]


async def test_old_events_go_and_a_namespace_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_PER_NAMESPACE", 3)
    cluster = memory_cluster()
    recorder = EventRecorder(cluster, LoopClock())
    task = asyncio.ensure_future(recorder.run())
    thing = await cluster.create(config_map("a"))
    for number in range(6):
        recorder.named("x").event(thing, "Normal", "R", f"m{number}")
        await asyncio.sleep(2)
    await asyncio.sleep(400)
    assert sorted(event.message for event in await recorded(cluster)) == ["m3", "m4", "m5"]
    recorder.named("x").event(thing, "Normal", "R", "m5")
    await asyncio.sleep(3500)
    assert [event.message for event in await recorded(cluster)] == ["m5"], "told again, so not old"
    await asyncio.sleep(1000)
    assert not await recorded(cluster)
    await end([task])


async def test_a_full_queue_drops_and_counts_and_a_cluster_that_is_away_stops_nobody() -> None:
    class Away(EmbeddedCluster):
        async def create(self, obj, **kwargs):  # type: ignore[no-untyped-def, override]
            raise Unavailable("away")

    cluster = memory_cluster()
    thing = await cluster.create(config_map("a"))
    recorder = EventRecorder(Away(cluster.objects), LoopClock())
    for number in range(module.MAX_WAITING + 7):
        recorder.named("x").event(thing, "Normal", "R", f"m{number}")
    assert recorder.dropped == 7
    await recorder.flush()
    assert not await recorded(cluster)
