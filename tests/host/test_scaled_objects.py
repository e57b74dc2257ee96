"""ScaledObjects on one machine, in virtual time: the real controllers over the real store, with triggers that a test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from msgspec import structs

from penstock.app.registry import trigger_plugin
from penstock.contracts.controller import Key, Watch
from penstock.contracts.exchange import DemandReport, ServiceDemand
from penstock.contracts.trigger import Demand, Opening, Reading
from penstock.controlplane.feed import Feed
from penstock.controlplane.service_demand import demand_reader
from penstock.host.hpa import HpaController
from penstock.host.metrics.readings import MetricReader
from penstock.host.scaled_object import ScaledObjectController
from penstock.kit.errors import Invalid, InvalidInput, NotFound, Unavailable
from penstock.resources import keda
from penstock.resources.admission import admit
from penstock.resources.autoscaling import (
    CrossVersionObjectReference,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec,
)
from penstock.resources.keda import (
    Advanced,
    AuthenticationReference,
    Fallback,
    ScaledObject,
    ScaledObjectSpec,
    ScaleTarget,
    ScaleTrigger,
    ScalingModifiers,
    SecretTarget,
    TriggerAuthentication,
    TriggerAuthenticationSpec,
)
from penstock.resources.meta import LabelSelector
from penstock.resources.pod_autoscaler import PodAutoscaler, PodAutoscalerSpec
from penstock.resources.serving import InferenceService
from penstock.testing.factories import deployment, meta, secret
from penstock.testing.world import World, condition

pytestmark = pytest.mark.looptime
METRIC = "s0-prometheus"


class Dial:
    """A trigger type whose value a test sets, by query. None fails, an Exception is raised."""

    def __init__(self) -> None:
        self.values: dict[str, float | Exception | None] = {}
        self.openings: list[Opening] = []
        self.closed = 0
        self.reads = 0

    def open_trigger(self, opening: Opening) -> Turned:
        if opening.get("query") == "impossible":
            raise InvalidInput("that query cannot be")
        self.openings.append(opening)
        return Turned(self, opening)


class Turned:
    def __init__(self, dial: Dial, opening: Opening) -> None:
        self.metric, self.target = "prometheus", opening.number("threshold")
        self._dial, self._opening = dial, opening

    async def read(self) -> Reading:
        self._dial.reads += 1
        await asyncio.sleep(0.01)
        value = self._dial.values.get(self._opening.get("query"), 0.0)
        if value is None:
            raise Unavailable("the server is down")
        if isinstance(value, Exception):
            raise value
        return Reading(value=value, active=value > 0)

    async def close(self) -> None:
        self._dial.closed += 1


class Services:
    """Lets the cache know InferenceServices."""

    name = "services"

    def watches(self) -> tuple[Watch, ...]:
        return (Watch(InferenceService, lambda _: ()),)

    async def reconcile(self, key: Key) -> None:
        return None


class NoUsage:
    def of(self, pod: object) -> Mapping[str, object]:
        return {}


class Scaled(World):
    """A world with ScaledObjects and autoscalers; `dial` is what the trigger type prometheus means in it."""

    def __init__(self) -> None:
        self.dial = Dial()
        self.demand: Demand = no_demand
        super().__init__(self._scaled_objects, self._autoscalers, lambda _: Services())

    def _scaled_objects(self, world: World) -> ScaledObjectController:
        parts = (world.cluster, world.cache, world.recorder.named("keda-operator"), world.clock)
        self.controller = ScaledObjectController(
            *parts,
            plugin=lambda type_: self.dial if type_ == "prometheus" else trigger_plugin(type_),
            demand=lambda *asked: self.demand(*asked),
        )
        return self.controller

    def _autoscalers(self, world: World) -> HpaController:
        parts = (world.cluster, world.cache, world.recorder.named("hpa"), world.clock)
        metrics = MetricReader(world.clock, NoUsage(), self.controller, {})
        return HpaController(*parts, metrics=metrics)

    async def replicas(self) -> int | None:
        return (await self.deployment()).spec.replicas

    async def scaled(self) -> ScaledObject:
        return await self.cluster.get(ScaledObject, "web", "default")

    async def autoscaler(self) -> HorizontalPodAutoscaler:
        return await self.cluster.get(HorizontalPodAutoscaler, "keda-hpa-web", "default")

    async def value(self, metric: str = METRIC) -> float:
        selector = LabelSelector(match_labels={keda.NAME_LABEL: "web"})
        [value] = await self.controller.external("default", metric, selector)
        return value


def no_demand(namespace: str, name: str, metric: str) -> float:
    raise NotFound("there is no service")


def trigger(query: str = "work", threshold: str = "5", **fields: object) -> ScaleTrigger:
    metadata = {"serverAddress": "http://server", "query": query, "threshold": threshold}
    return ScaleTrigger(type="prometheus", metadata=metadata, **fields)


def scaled_object(
    *triggers: ScaleTrigger, annotations: dict[str, str] | None = None, **fields: object
) -> ScaledObject:
    wanted = {"polling_interval": 10, "cooldown_period": 60, "max_replica_count": 5, **fields}
    spec = ScaledObjectSpec(
        scale_target_ref=ScaleTarget(name="web"), triggers=triggers or (trigger(),), **wanted
    )
    return ScaledObject(metadata=meta("web", annotations=annotations or {}), spec=spec)


async def test_work_that_waits_wakes_the_target_and_its_amount_sizes_it_and_quiet_puts_it_to_sleep() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        await world.cluster.create(scaled_object())
        await asyncio.sleep(5)
        status = (await world.scaled()).status
        assert (condition(await world.scaled(), "Ready").status, status.hpa_name) == ("True", "keda-hpa-web")
        assert status.external_metric_names == (METRIC,)
        assert status.original_replica_count == 0
        world.dial.values["work"] = 14.0
        await asyncio.sleep(11)
        assert await world.replicas() == 1
        await asyncio.sleep(60)
        assert await world.replicas() == 3  # 14 / 5, rounded up
        world.dial.values["work"] = 0.0
        await asyncio.sleep(50)
        assert await world.replicas() == 3
        assert condition(await world.scaled(), "Active").reason == "ScalerCooldown"
        await asyncio.sleep(30)
        assert await world.replicas() == 0
        said = await world.events()
        assert (
            "KEDAScaleTargetActivated: Scaled apps/v1.Deployment default/web from 0 to 1, triggered by s0-prometheus"
            in said
        )
        assert "KEDAScaleTargetDeactivated: Deactivated apps/v1.Deployment default/web from 3 to 0" in said
        assert "ScaledObjectReady: ScaledObject is ready for scaling" in said


async def test_the_autoscaler_is_the_one_that_keda_writes() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=1))
        await world.cluster.create(scaled_object(min_replica_count=2))
        await asyncio.sleep(5)
        hpa = await world.autoscaler()
        assert (hpa.spec.min_replicas, hpa.spec.max_replicas) == (2, 5)
        external = hpa.spec.metrics[0].external
        assert external is not None
        assert external.metric.name == METRIC
        assert external.metric.selector == LabelSelector(match_labels={keda.NAME_LABEL: "web"})
        assert external.target.average_value == "5"
        assert [owner.kind for owner in hpa.metadata.owner_references] == ["ScaledObject"]
        await world.patch(ScaledObject, "web", {"spec": {"maxReplicaCount": 7}})
        await asyncio.sleep(1)
        assert (await world.autoscaler()).spec.max_replicas == 7


@pytest.mark.parametrize("lie", [None, float("nan"), float("inf"), -3.0, RuntimeError("secret")])
async def test_a_server_that_is_down_or_lies_changes_nothing_and_is_told(lie: float | None) -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        await world.cluster.create(scaled_object())
        world.dial.values["work"] = 14.0
        await asyncio.sleep(60)
        assert await world.replicas() == 3
        world.dial.values["work"] = lie
        await asyncio.sleep(600)
        assert await world.replicas() == 3
        ready = condition(await world.scaled(), "Ready")
        assert (ready.status, ready.reason) == ("False", "TriggerError")
        assert METRIC in ready.message
        assert "secret" not in ready.message
        health = (await world.scaled()).status.health[METRIC]
        assert health.status == "Failing"
        assert (health.number_of_failures or 0) > 10
        world.dial.values["work"] = 0.0
        await asyncio.sleep(80)
        assert condition(await world.scaled(), "Ready").status == "True"
        assert await world.replicas() == 0


async def test_a_server_that_is_down_never_wakes_a_target_either() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        await world.cluster.create(scaled_object(fallback=Fallback(failure_threshold=2, replicas=4)))
        world.dial.values["work"] = None
        await asyncio.sleep(300)
        assert await world.replicas() == 0


async def test_one_trigger_that_answers_wakes_although_another_fails() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        await world.cluster.create(scaled_object(trigger("work"), trigger("other")))
        world.dial.values |= {"work": None, "other": 9.0}
        await asyncio.sleep(60)
        assert await world.replicas() == 2
        ready = condition(await world.scaled(), "Ready")
        assert (ready.status, ready.reason) == ("Unknown", "PartialTriggerError")
        activity = (await world.scaled()).status.triggers_activity
        assert {name: one.is_active for name, one in activity.items()} == {
            METRIC: False,
            "s1-prometheus": True,
        }


@pytest.mark.parametrize(
    ("behavior", "before", "after"),
    [
        ("static", 2, 4),
        ("", 2, 4),
        ("currentReplicas", 2, 2),
        ("currentReplicasIfHigher", 2, 4),
        ("currentReplicasIfHigher", 5, 5),
        ("currentReplicasIfLower", 2, 2),
    ],
)
async def test_after_more_failures_than_the_threshold_the_fallback_holds(
    behavior: str, before: int, after: int
) -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        fallback = Fallback(failure_threshold=3, replicas=4, behavior=behavior)
        await world.cluster.create(scaled_object(fallback=fallback))
        world.dial.values["work"] = before * 5.0
        await asyncio.sleep(90)
        assert await world.replicas() == before
        world.dial.values["work"] = None
        await asyncio.sleep(120)
        assert await world.replicas() == after
        assert condition(await world.scaled(), "Fallback").status == "True"


async def test_a_second_scaled_object_for_a_target_is_refused() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=1))
        await world.cluster.create(scaled_object())
        await asyncio.sleep(5)
        with pytest.raises(Invalid, match="already scaled by"):
            await world.cluster.create(structs.replace(scaled_object(), metadata=meta("late")))


async def test_a_scaled_object_is_refused_for_a_target_that_has_an_autoscaler() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=1))
        target = CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="web")
        spec = HorizontalPodAutoscalerSpec(scale_target_ref=target, max_replicas=3)
        await world.cluster.create(HorizontalPodAutoscaler(metadata=meta("mine"), spec=spec))
        with pytest.raises(Invalid, match="HorizontalPodAutoscaler mine"):
            await world.cluster.create(scaled_object())


async def test_a_target_that_requests_scale_is_left_to_them() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=2))
        target = CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="web")
        await world.cluster.create(
            PodAutoscaler(metadata=meta("web"), spec=PodAutoscalerSpec(scale_target_ref=target))
        )
        await asyncio.sleep(2)
        await world.cluster.create(scaled_object())
        await asyncio.sleep(60)
        assert condition(await world.scaled(), "Ready").reason == "ConflictingAutoscaler"
        assert await world.replicas() == 2
        with pytest.raises(NotFound):
            await world.autoscaler()


async def test_the_size_from_before_is_restored_when_the_scaled_object_goes() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=2))
        advanced = Advanced(restore_to_original_replica_count=True)
        await world.cluster.create(scaled_object(advanced=advanced))
        await asyncio.sleep(30)
        assert await world.replicas() == 0  # never active, and no initial cooldown
        await world.cluster.delete(ScaledObject, "web", "default")
        await asyncio.sleep(5)
        assert await world.replicas() == 2
        with pytest.raises(NotFound):
            await world.scaled()
        with pytest.raises(NotFound):
            await world.autoscaler()
        assert world.dial.closed == 1


async def test_annotations_pause_at_a_size_and_let_go_again() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        await world.cluster.create(scaled_object())
        world.dial.values["work"] = 14.0
        await asyncio.sleep(60)
        await world.patch(ScaledObject, "web", {"metadata": {"annotations": {keda.PAUSED_REPLICAS: "4"}}})
        await asyncio.sleep(2)
        assert await world.replicas() == 4
        reads = world.dial.reads
        await asyncio.sleep(200)
        assert (await world.replicas(), world.dial.reads) == (4, reads)
        assert condition(await world.scaled(), "Paused").status == "True"
        with pytest.raises(NotFound):
            await world.autoscaler()
        await world.patch(ScaledObject, "web", {"metadata": {"annotations": {keda.PAUSED_REPLICAS: None}}})
        await asyncio.sleep(2)
        assert condition(await world.scaled(), "Paused").status == "False"
        await asyncio.sleep(400)
        assert await world.replicas() == 3
        said = await world.events()
        assert "ScaledObjectPaused: ScaledObject is paused" in said
        assert "ScaledObjectUnpaused: pause annotation removed for ScaledObject" in said


async def test_a_formula_makes_one_metric_of_all() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        modifiers = ScalingModifiers(formula="max(a, 2 * b)", target="2", activation_target="3")
        await world.cluster.create(
            scaled_object(
                trigger("work", name="a"),
                trigger("other", name="b"),
                advanced=Advanced(scaling_modifiers=modifiers),
            )
        )
        world.dial.values |= {"work": 1.0, "other": 1.5}
        await asyncio.sleep(30)
        assert await world.replicas() == 0  # 3 is not above 3
        world.dial.values["other"] = 4.0
        await asyncio.sleep(60)
        assert await world.replicas() == 4
        assert await world.value("composite-metric") == 8.0


async def test_secrets_reach_the_trigger_and_a_new_one_opens_it_anew() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        reference = AuthenticationReference(name="auth")
        await world.cluster.create(scaled_object(trigger(authentication_ref=reference)))
        await asyncio.sleep(5)
        ready = condition(await world.scaled(), "Ready")
        assert (ready.status, ready.reason) == ("False", "ScaledObjectCheckFailed")
        assert "TriggerAuthentication auth does not exist" in ready.message
        spec = TriggerAuthenticationSpec(
            secret_target_ref=(SecretTarget(parameter="password", name="server", key="word"),)
        )
        await world.cluster.create(secret("server", word="first"))
        await world.cluster.create(TriggerAuthentication(metadata=meta("auth"), spec=spec))
        await asyncio.sleep(12)
        assert condition(await world.scaled(), "Ready").status == "True"
        assert world.dial.openings[-1].secrets == {"password": "first"}
        opened = len(world.dial.openings)
        await asyncio.sleep(60)
        assert len(world.dial.openings) == opened
        await world.cluster.delete(type(secret("server")), "server", "default")
        await world.cluster.create(secret("server", word="second"))
        await asyncio.sleep(12)
        assert world.dial.openings[-1].secrets == {"password": "second"}
        assert world.dial.closed == 1


async def test_a_scaled_object_waits_for_its_target_and_acts_as_soon_as_it_is_there() -> None:
    async with Scaled() as world:
        world.dial.values["work"] = 3.0
        await world.cluster.create(scaled_object(polling_interval=1000))
        await asyncio.sleep(5)
        assert "Deployment web does not exist" in condition(await world.scaled(), "Ready").message
        await world.cluster.create(deployment("web", replicas=0))
        await asyncio.sleep(2)
        assert await world.replicas() == 1


async def test_triggers_are_asked_once_per_interval_and_once_per_sync_of_the_autoscaler() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        await world.cluster.create(scaled_object(polling_interval=30))
        await asyncio.sleep(3000)
        assert world.dial.reads == pytest.approx(100, abs=2)  # asleep: the autoscaler does not look
        world.dial.reads = 0
        world.dial.values["work"] = 4.0
        await world.patch(ScaledObject, "web", {"spec": {"triggers": [_cached()]}})
        await asyncio.sleep(3000)
        assert world.dial.reads == pytest.approx(100, abs=3)  # awake, and the autoscaler reads what was read
        assert await world.replicas() == 1


async def test_metrics_that_nobody_offers_are_not_found() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        await world.cluster.create(scaled_object())
        await asyncio.sleep(2)
        with pytest.raises(NotFound):
            await world.value("s9-nothing")
        with pytest.raises(NotFound):
            await world.controller.external("default", METRIC, None)


def _cached() -> dict[str, object]:
    metadata = {"serverAddress": "http://server", "query": "work", "threshold": "5"}
    return {"type": "prometheus", "metadata": metadata, "useCachedMetrics": True}


async def test_a_restart_in_the_middle_of_failures_goes_on_counting() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        await world.cluster.create(scaled_object(min_replica_count=1))
        world.dial.values["work"] = None
        await asyncio.sleep(60)
        before = (await world.scaled()).status.health[METRIC].number_of_failures or 0
        parts = (world.cluster, world.cache, world.recorder.named("keda-operator"), world.clock)
        fresh = ScaledObjectController(*parts, plugin=lambda type_: world.dial, demand=no_demand)
        await fresh.reconcile(Key("default", "web"))
        assert (await world.scaled()).status.health[METRIC].number_of_failures == before + 1
        await fresh.close()


async def test_a_restart_in_the_middle_of_a_cooldown_takes_nothing_down() -> None:
    async with Scaled() as world:
        await world.cluster.create(deployment("web", replicas=0))
        await world.cluster.create(scaled_object(cooldown_period=600))
        world.dial.values["work"] = 14.0
        await asyncio.sleep(60)
        world.dial.values["work"] = 0.0
        await asyncio.sleep(20)
        parts = (world.cluster, world.cache, world.recorder.named("keda-operator"), world.clock)
        fresh = ScaledObjectController(*parts, plugin=lambda type_: world.dial, demand=no_demand)
        await fresh.reconcile(Key("default", "web"))
        assert await world.replicas() == 3
        await fresh.close()


async def test_the_demand_that_gateways_report_scales_like_any_metric() -> None:
    async with Scaled() as world:
        feed = Feed(world.clock)
        world.demand = demand_reader(feed, world.cache)
        await world.cluster.create(deployment("web", replicas=0))
        service = {
            "predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://bucket/model"}}
        }
        parsed = admit(
            {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "metadata": {"name": "llm", "namespace": "default"},
                "spec": service,
            }
        )
        await world.cluster.create(parsed.object)
        metadata = {"inferenceService": "llm", "metric": "concurrency", "threshold": "4"}
        await world.cluster.create(scaled_object(ScaleTrigger(type="penstock-demand", metadata=metadata)))
        await asyncio.sleep(30)
        assert "no gateway has reported" in condition(await world.scaled(), "Ready").message
        for gateway, in_flight in (("one", 6.0), ("two", 3.5)):
            seen = ServiceDemand(namespace="default", name="llm", in_flight=in_flight)
            feed.take(gateway, DemandReport(gateway=gateway, at=0.0, window_s=1.0, services=(seen,)))
        await asyncio.sleep(60)
        assert await world.replicas() == 3
        assert (await world.scaled()).status.external_metric_names == ("s0-penstock-demand-concurrency-llm",)
