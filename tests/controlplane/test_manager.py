"""Controllers run each for itself: errors, deaths and stops of one leave the others alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from penstock.contracts.controller import Key, Watch, own_key
from penstock.controlplane.controller import RECONCILE_TIMEOUT_S
from penstock.controlplane.events import EventRecorder
from penstock.controlplane.informer import InformerCache
from penstock.controlplane.manager import Manager
from penstock.host.cluster import EmbeddedCluster
from penstock.kit.errors import Conflict, Unavailable
from penstock.resources.core import ConfigMap, Event, Secret
from penstock.resources.meta import Resource
from penstock.testing.clock import LoopClock
from penstock.testing.factories import config_map, memory_cluster, secret

pytestmark = pytest.mark.looptime


class Probe:
    """A controller that notes its calls and does as it is told."""

    def __init__(
        self,
        name: str,
        act: Callable[[Key], float | None] = lambda key: None,
        kind: type[Resource] = ConfigMap,
    ) -> None:
        self.name = name
        self.act = act
        self.kind = kind
        self.calls: list[tuple[float, str]] = []

    def watches(self) -> tuple[Watch, ...]:
        return (Watch(self.kind, own_key),)

    async def reconcile(self, key: Key) -> float | None:
        self.calls.append((asyncio.get_running_loop().time(), key.name))
        return self.act(key)

    def times(self) -> list[float]:
        return [round(at - self.calls[0][0], 3) for at, _ in self.calls]


class Running:
    """A manager with its cluster, up within `async with`."""

    def __init__(self, *controllers: Probe, cluster: EmbeddedCluster | None = None) -> None:
        self.cluster = cluster or memory_cluster()
        self.cache = InformerCache(self.cluster, LoopClock())
        self.recorder = EventRecorder(self.cluster, LoopClock())
        self.manager = Manager(controllers, cache=self.cache, recorder=self.recorder)
        self.stop = asyncio.Event()

    async def __aenter__(self) -> Running:
        self.task = asyncio.ensure_future(self.manager.run(self.stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 10)


def raising(error: Exception) -> Callable[[Key], float | None]:
    def act(key: Key) -> float | None:
        raise error

    return act


async def test_what_exists_at_the_start_and_every_later_change_is_reconciled() -> None:
    probe = Probe("probe")
    running = Running(probe)
    await running.cluster.create(config_map("early"))
    async with running:
        await asyncio.sleep(1)
        await running.cluster.create(config_map("late"))
        await asyncio.sleep(1)
    assert [name for _, name in probe.calls] == ["early", "late"]


async def test_a_reconcile_is_called_again_when_it_asked_to_be() -> None:
    probe = Probe("probe", lambda key: 30.0)
    async with Running(probe) as running:
        await running.cluster.create(config_map("a"))
        await asyncio.sleep(100)
    assert probe.times() == [0.0, 30.0, 60.0, 90.0]


async def test_errors_back_off_and_leave_other_controllers_and_keys_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad, good = Probe("bad", raising(Unavailable("away"))), Probe("good")
    async with Running(bad, good) as running:
        await running.cluster.create(config_map("a"))
        await asyncio.sleep(0.1)
        assert bad.times() == [0.0, 0.005, 0.015, 0.035, 0.075]
        await asyncio.sleep(600)
        assert 15 < len(bad.calls) < 30
    assert len(good.calls) == 1
    assert "bad default/a: away; again in" in caplog.text
    assert "Traceback" not in caplog.text


async def test_an_unforeseen_error_is_logged_with_its_traceback_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = Probe("bad", raising(ZeroDivisionError("oops")))
    async with Running(bad) as running:
        await running.cluster.create(config_map("a"))
        await asyncio.sleep(0.01)
    assert len(bad.calls) >= 2
    assert "ZeroDivisionError: oops" in caplog.text


async def test_a_conflict_is_tried_again_at_once_and_without_noise(caplog: pytest.LogCaptureFixture) -> None:
    probe = Probe("stale")
    probe.act = lambda key: None if len(probe.calls) > 1 else raising(Conflict("stale"))(key)
    with caplog.at_level(logging.INFO):
        async with Running(probe) as running:
            await running.cluster.create(config_map("a"))
            await asyncio.sleep(1)
    assert probe.times() == [0.0, 0.005]
    assert "stale" not in caplog.text


async def test_a_reconcile_that_hangs_is_ended_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    class Hanging(Probe):
        async def reconcile(self, key: Key) -> float | None:
            await super().reconcile(key)
            await asyncio.sleep(1e6)
            return None

    probe = Hanging("hanging")
    async with Running(probe) as running:
        await running.cluster.create(config_map("a"))
        await asyncio.sleep(RECONCILE_TIMEOUT_S + 1)
    assert len(probe.calls) == 2
    assert "took longer than" in caplog.text


async def test_a_controller_whose_kind_cannot_be_listed_holds_up_no_other() -> None:
    class Half(EmbeddedCluster):
        async def list(self, kind, *args, **kwargs):  # type: ignore[no-untyped-def, override]
            if kind is Secret:
                raise Unavailable("no secrets today")
            return await super().list(kind, *args, **kwargs)

    blind, seeing = Probe("blind", kind=Secret), Probe("seeing")
    async with Running(blind, seeing, cluster=Half(memory_cluster().objects)) as running:
        await running.cluster.create(secret("s", key="x"))
        await running.cluster.create(config_map("a"))
        await asyncio.sleep(1)
    assert not blind.calls
    assert len(seeing.calls) == 1


async def test_the_loop_of_a_controller_that_dies_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    dying, good = Probe("dying"), Probe("good")
    running = Running(dying, good)
    queue = running.manager._loops[0].queue
    take, deaths = queue.take, iter([True])

    async def dies_once() -> Key:
        if next(deaths, False):
            raise IndexError("a fault of the queue")
        return await take()

    queue.take = dies_once  # type: ignore[method-assign]
    async with running:
        await running.cluster.create(config_map("a"))
        await asyncio.sleep(1)
    assert [name for _, name in dying.calls] == ["a"]
    assert [name for _, name in good.calls] == ["a"]
    assert "dying ended; it starts again" in caplog.text


async def test_a_worker_outlives_the_cancelling_of_what_it_waited_for() -> None:
    class Waiting(Probe):
        async def reconcile(self, key: Key) -> float | None:
            await super().reconcile(key)
            if len(self.calls) < 10:
                waited_for = asyncio.ensure_future(asyncio.sleep(10))
                asyncio.get_running_loop().call_soon(waited_for.cancel)
                await waited_for
            return None

    probe = Waiting("waiting")
    async with Running(probe) as running:
        await running.cluster.create(config_map("a"))
        await asyncio.sleep(10)
    assert len(probe.calls) == 10


async def test_stop_ends_everything_even_before_the_first_list() -> None:
    running = Running(Probe("probe"))
    running.stop.set()
    async with running:
        pass
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_events_that_wait_at_the_stop_are_written() -> None:
    cluster = memory_cluster()
    thing = await cluster.create(config_map("a"))
    running = Running()
    running.recorder = EventRecorder(cluster, LoopClock())
    running.manager = Manager((), cache=running.cache, recorder=running.recorder)
    async with running:
        running.stop.set()
        running.recorder.named("test").event(thing, "Normal", "Stopped", "orderly")
    assert [event.reason for event in (await cluster.list(Event)).items] == ["Stopped"]


async def test_outcomes_are_counted_under_controller_runtimes_names() -> None:
    def count(result: str) -> float:
        labels = {"controller": "counted", "result": result}
        return REGISTRY.get_sample_value("controller_runtime_reconcile_total", labels) or 0.0

    probe = Probe("counted")
    probe.act = lambda key: None if len(probe.calls) > 2 else raising(Unavailable("away"))(key)
    async with Running(probe) as running:
        await running.cluster.create(config_map("a"))
        await asyncio.sleep(1)
    assert (count("error"), count("success")) == (2.0, 1.0)
