"""Demand to replicas: the autoscaler over the real store, with a kubelet that only pretends, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from service_world import ServiceWorld, iris

from penstock.contracts.exchange import DemandReport, RevisionDemand, ServiceDemand
from penstock.controlplane.autoscaling.revision import Revision
from penstock.decide.scale_in import DRAINING
from penstock.resources.admission import admit
from penstock.resources.core import ConfigMap
from penstock.resources.meta import ObjectMeta
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment
from penstock.testing.factories import namespace, node
from penstock.testing.world import condition

pytestmark = pytest.mark.looptime
QUICK = {"autoscaling.knative.dev/window": "6s", "autoscaling.knative.dev/target": "10"}
SLEEPY: dict[str, Any] = {"minReplicas": 0}


async def size(world: ServiceWorld) -> int:
    return (await world.sizes())["1"]


async def asleep(world: ServiceWorld) -> None:
    """A service that has served, and rests at zero."""
    await world.cluster.create(iris(QUICK, **SLEEPY))
    await asyncio.sleep(90)
    assert await size(world) == 0


async def test_a_service_follows_its_demand_up_and_down() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris(QUICK))
        await asyncio.sleep(10)
        world.asked = 35
        await asyncio.sleep(20)
        assert await size(world) == 5, "35 at once, 7 for each pod (70 % of 10)"
        assert world.shares() == {"1": (100, 5)}
        held = (await world.scaler()).status.num_activators
        assert held == 3, "5 pods take 50 at once, and a burst of 200 more is to be held: 100 by each gateway"
        world.asked = 8
        await asyncio.sleep(60)
        assert await size(world) == 2
        world.asked = 0
        await asyncio.sleep(120)
        assert await size(world) == 1, "one replica is the least unless minReplicas is 0"


async def test_an_idle_service_sleeps_stays_ready_and_wakes_at_once_when_it_is_asked() -> None:
    async with ServiceWorld() as world:
        await asleep(world)
        scaler = await world.scaler()
        assert condition(scaler, "Active").reason == "NoTraffic"
        assert (scaler.status.desired_scale, scaler.status.actual_scale, scaler.status.mode) == (
            0,
            0,
            "Proxy",
        )
        assert condition(await world.service(), "Ready").status == "True"
        [route] = world.feed.table.services
        assert (route.phase, route.wakes) == ("Sleeping", True)
        await asyncio.sleep(0.4)
        await world.report(waiting=1, window_s=0.05)
        await asyncio.sleep(0.05)
        assert await size(world) == 1
        await asyncio.sleep(10)
        assert world.shares() == {"1": (100, 1)}


async def test_who_sleeps_is_not_looked_at_and_wakes_as_if_it_had_been(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks: list[float] = []
    tick = Revision.tick

    def counted(revision: Revision, pods: Any, now: float, wall: float) -> None:
        ticks.append(now)
        tick(revision, pods, now, wall)

    monkeypatch.setattr(Revision, "tick", counted)
    async with ServiceWorld() as world:
        await asleep(world)
        ticks.clear()
        await asyncio.sleep(300)
        assert not ticks
        await world.report(waiting=1, window_s=0.05)
        await asyncio.sleep(0.05)
        assert (len(ticks), await size(world)) == (1, 1)
        told = (await world.scaler()).status.decisions[-1].reasons[0]
        assert told.startswith("stable average 0.1"), "one request, over the six seconds of its window"
        await asyncio.sleep(20)
        assert len(ticks) > 5


async def test_who_looks_ahead_learns_from_silence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[float] = []
    monkeypatch.setattr(Revision, "tick", lambda revision, pods, now, wall: ticks.append(now))
    async with ServiceWorld() as world:
        ahead = QUICK | {"autoscaling.knative.dev/class": "forecast.penstock.dev"}
        await world.cluster.create(iris(ahead, **SLEEPY))
        await asyncio.sleep(100)
        assert len(ticks) > 30


async def test_what_never_gets_ready_is_given_up_and_says_so_until_it_is_asked_for_again() -> None:
    async with ServiceWorld() as world:
        quick = QUICK | {"serving.knative.dev/progress-deadline": "10s"}
        await world.cluster.create(iris(quick, labels={"broken": "yes"}, **SLEEPY))
        await asyncio.sleep(60)
        assert await size(world) == 0
        ready = condition(await world.service(), "Ready")
        assert (ready.status, ready.reason) == ("False", "ProgressDeadlineExceeded")
        assert "iris-predictor-00001 was not ready within its progress deadline" in ready.message
        [route] = world.feed.table.services
        assert (route.phase, route.wakes) == ("Sleeping", True)
        await world.report(waiting=1, window_s=0.05)
        await asyncio.sleep(1)
        assert await size(world) == 1


async def test_ten_thousand_requests_at_zero_ask_for_what_they_need() -> None:
    async with ServiceWorld() as world:
        await asleep(world)
        world.reports = False
        for _ in range(10):
            await world.report(waiting=10_000)
            await asyncio.sleep(1)
        assert 1000 <= await size(world) <= 1429, (
            "no faster than a thousandfold of the ready pods: Knative's rate"
        )


async def test_an_autoscaler_that_restarts_in_panic_drops_nothing() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris(QUICK | {"autoscaling.knative.dev/max-scale": "9"}))
        await asyncio.sleep(20)
        world.asked = 60
        await asyncio.sleep(12)
        assert await size(world) == 9
        world.asked, world.reports = 0, False
        for task in [task for task in asyncio.all_tasks() if task.get_name() == "autoscaler"]:
            task.cancel()
        fresh = asyncio.ensure_future(world.autoscaler().run())
        sizes = set()
        for _ in range(60):
            await asyncio.sleep(0.1)
            sizes.add(await size(world))
        world.reports = True
        for _ in range(40):
            await asyncio.sleep(0.1)
            sizes.add(await size(world))
        fresh.cancel()
        assert sizes == {9}


async def test_without_a_gateway_nothing_is_concluded() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris(QUICK, **SLEEPY))
        await asyncio.sleep(20)
        world.asked = 35
        await asyncio.sleep(20)
        world.reports = False
        await asyncio.sleep(300)
        assert await size(world) == 5


async def test_lies_of_a_gateway_are_not_scaled_upon() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris(QUICK))
        await asyncio.sleep(20)
        world.asked = -1e9
        await asyncio.sleep(20)
        assert await size(world) == 1


async def test_the_replica_with_the_fewest_streams_goes_once_they_have_ended() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris(QUICK))
        await asyncio.sleep(10)
        world.asked = 14
        await asyncio.sleep(60)
        first, second = [pod.metadata.name for pod in await world.pods()]
        world.asked, world.streams = 1, {first: 3, second: 1}
        await asyncio.sleep(60)
        assert await size(world) == 2
        marked = {pod.metadata.name: DRAINING in pod.metadata.annotations for pod in await world.pods()}
        assert marked == {first: False, second: True}
        assert world.shares() == {"1": (100, 1)}, "it gets no new requests"
        world.streams = {first: 3}
        await asyncio.sleep(10)
        assert [pod.metadata.name for pod in await world.pods()] == [first]


async def test_a_replica_that_was_set_aside_comes_back_with_the_demand() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris(QUICK))
        await asyncio.sleep(10)
        world.asked = 14
        await asyncio.sleep(60)
        names = {pod.metadata.name for pod in await world.pods()}
        world.asked, world.streams = 1, dict.fromkeys(names, 1)
        await asyncio.sleep(60)
        world.asked = 14
        await asyncio.sleep(20)
        pods = await world.pods()
        assert {pod.metadata.name for pod in pods} == names
        assert not any(DRAINING in pod.metadata.annotations for pod in pods)


async def test_no_more_replicas_are_asked_for_than_can_be_placed_and_the_condition_says_why() -> None:
    async with ServiceWorld() as world:
        gpu = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
        own = [{"name": "kserve-container", "image": "mine", "command": ["true"], **gpu}]
        service = msgspec.to_builtins(iris(QUICK))
        service["spec"]["predictor"] = {"containers": own}
        await world.cluster.create(node("n", **{"nvidia.com/gpu": "3"}))
        await world.cluster.create(msgspec.convert(service, type(iris())))
        await asyncio.sleep(10)
        world.asked = 500
        await asyncio.sleep(20)
        assert await size(world) == 3
        room = condition(await world.scaler(), "Schedulable")
        assert (room.status, room.reason) == ("False", "InsufficientRoom")
        assert "3 can be placed: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu" in room.message
        assert any(
            event.startswith("InsufficientRoom: iris-predictor-00001: ") for event in await world.events()
        )


async def test_the_clusters_configuration_counts_from_when_it_is_changed() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris({}, **SLEEPY))
        meta = ObjectMeta(name="config-autoscaler", namespace="knative-serving")
        data = {"stable-window": "6s", "scale-to-zero-grace-period": "4s"}
        await world.cluster.create(namespace("knative-serving"))
        await asyncio.sleep(5)
        await world.cluster.create(ConfigMap(metadata=meta, data=data))
        await asyncio.sleep(25)
        assert await size(world) == 0, "not before 90 s with Knative's defaults"


async def test_decisions_are_kept_with_all_that_they_rest_on() -> None:
    async with ServiceWorld() as world:
        await world.cluster.create(iris(QUICK))
        await asyncio.sleep(10)
        world.asked = 35
        await asyncio.sleep(30)
        last = (await world.scaler()).status.decisions[-1]
        assert last.law == "kpa.autoscaling.knative.dev"
        assert last.desired == 5
        assert any("over target 7 is 5" in reason for reason in last.reasons)
        assert {"spec", "state", "seen", "now"} <= set(last.input)


async def test_how_long_starts_take_is_told() -> None:
    async with ServiceWorld() as world:
        world.kubelet.start_s = 7.0
        await world.cluster.create(iris(QUICK))
        await asyncio.sleep(30)
        known = (await world.scaler()).status.cold_start
        assert known is not None
        assert 6.5 <= known.expected_s <= 8.0


async def test_a_transformer_and_the_predictor_behind_it_each_follow_their_own_requests() -> None:
    async with ServiceWorld() as world:
        world.reports = False
        container = {"name": "kserve-container", "image": "t", "command": ["serve"]}
        made = msgspec.to_builtins(iris(QUICK))
        made["spec"]["transformer"] = {"containers": [container]}
        admitted = admit(made).object
        assert isinstance(admitted, InferenceService)
        await world.cluster.create(admitted)
        await asyncio.sleep(20)
        for _ in range(20):
            services = tuple(
                ServiceDemand(
                    namespace="default",
                    name=name,
                    in_flight=asked,
                    revisions=(RevisionDemand(name=f"iris-{component}-00001", in_flight=asked),),
                )
                for name, component, asked in (
                    ("iris", "transformer", 8.0),
                    ("iris-predictor", "predictor", 35.0),
                )
            )
            world.feed.take(world, DemandReport(gateway="g", at=0.0, window_s=1.0, services=services))
            await asyncio.sleep(1)
        found = (await world.cluster.list(Deployment, "default")).items
        sizes = {d.metadata.name: d.spec.replicas for d in found}
        assert sizes == {"iris-transformer-00001": 2, "iris-predictor-00001": 5}
