"""A queue of a real RabbitMQ takes a workload from 0 to 3 and back, in real time: real controllers, pods that only pretend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import pytest

from event_sources import Rabbit
from penstock.app.registry import trigger_plugin
from penstock.host import hpa
from penstock.host.hpa import HpaController
from penstock.host.metrics.readings import MetricReader
from penstock.host.scaled_object import ScaledObjectController
from penstock.kit.errors import Unavailable
from penstock.resources.keda import (
    AuthenticationReference,
    ScaledObject,
    ScaledObjectSpec,
    ScaleTarget,
    ScaleTrigger,
    SecretTarget,
    TriggerAuthentication,
    TriggerAuthenticationSpec,
)
from penstock.testing.factories import deployment, meta, secret
from penstock.testing.world import World, condition, is_ready

pytestmark = pytest.mark.timeout(300)


class NoUsage:
    def of(self, pod: object) -> Mapping[str, object]:
        return {}


class Real(World):
    """A world whose triggers are the shipped ones."""

    def __init__(self) -> None:
        super().__init__(self._scaled_objects, self._autoscalers)
        self.kubelet.start_s = 0.2

    def _scaled_objects(self, world: World) -> ScaledObjectController:
        parts = (world.cluster, world.cache, world.recorder.named("keda-operator"), world.clock)
        self.controller = ScaledObjectController(*parts, plugin=trigger_plugin, demand=no_demand)
        return self.controller

    def _autoscalers(self, world: World) -> HpaController:
        parts = (world.cluster, world.cache, world.recorder.named("hpa"), world.clock)
        return HpaController(*parts, metrics=MetricReader(world.clock, NoUsage(), self.controller, {}))

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        await self.controller.close()


def no_demand(namespace: str, name: str, metric: str) -> float:
    raise Unavailable("no gateway")


async def until(true: Callable[[], Awaitable[bool]], within_s: float) -> float:
    started = time.monotonic()
    while time.monotonic() - started < within_s:
        if await true():
            return time.monotonic() - started
        await asyncio.sleep(0.05)
    pytest.fail(f"not within {within_s} s")


async def test_messages_in_a_queue_take_a_workload_from_0_to_3_and_back(
    rabbitmq: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hpa, "SYNC_S", 1.0)
    await asyncio.to_thread(rabbitmq.declare, "clips")
    async with Real() as world:

        async def ready() -> int:
            return sum(map(is_ready, await world.pods("app=web")))

        def sized(count: int) -> Callable[[], Awaitable[bool]]:
            async def true() -> bool:
                return await ready() == count and (await world.deployment()).spec.replicas == count

            return true

        await world.cluster.create(secret("rabbit", host=rabbitmq.amqp_url))
        target = SecretTarget(parameter="host", name="rabbit", key="host")
        spec = TriggerAuthenticationSpec(secret_target_ref=(target,))
        await world.cluster.create(TriggerAuthentication(metadata=meta("rabbit"), spec=spec))
        await world.cluster.create(deployment("web", replicas=0))
        trigger = ScaleTrigger(
            type="rabbitmq",
            metadata={"queueName": "clips", "mode": "QueueLength", "value": "4"},
            authentication_ref=AuthenticationReference(name="rabbit"),
        )
        wanted = ScaledObjectSpec(
            scale_target_ref=ScaleTarget(name="web"),
            triggers=(trigger,),
            polling_interval=1,
            cooldown_period=2,
            max_replica_count=10,
        )
        await world.cluster.create(ScaledObject(metadata=meta("web"), spec=wanted))
        await asyncio.sleep(2.5)
        assert await ready() == 0
        await asyncio.to_thread(rabbitmq.publish, "clips", 11)
        up_s = await until(sized(3), 60)
        found = await world.cluster.get(ScaledObject, "web", "default")
        assert condition(found, "Active").status == "True"
        assert found.status.external_metric_names == ("s0-rabbitmq-clips",)
        await asyncio.to_thread(rabbitmq.purge, "clips")
        down_s = await until(sized(0), 60)
        said = await world.events()
        print(f"0 to 3 ready pods in {up_s:.1f} s, back to 0 in {down_s:.1f} s")
        assert any(line.startswith("KEDAScaleTargetDeactivated: ") for line in said)
        assert not any("guest" in line for line in said)
