"""KEDA with a prometheus trigger on concurrency, those that wait included: its own loop from and to zero, its autoscaler beyond one.

Options: `target` (threshold: requests at once per pod), `activation`, `polling` (30 s), `cooldown` (300 s), `min`, `max`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from penstock.contracts.trigger import Reading
from penstock.decide.hpa import HpaInput, plan_hpa
from penstock.decide.hpa_behavior import HpaState
from penstock.decide.hpa_metric import ValueReadings
from penstock.decide.scaled_object import Poll, poll
from penstock.decide.scaled_object_hpa import metric_name
from penstock.decide.scaled_object_hpa import plan_hpa as autoscaler_of
from penstock.decide.scaled_object_metrics import Metric, Observed
from penstock.kit.timestamps import rfc3339
from penstock.resources.autoscaling import HorizontalPodAutoscalerStatus
from penstock.resources.keda import ScaledObject, ScaledObjectSpec, ScaleTarget, ScaleTrigger
from penstock.resources.meta import ObjectMeta
from penstock.testing.sim.policies.hpa import DEFAULT_TARGET, pods
from penstock.testing.sim.policy import Observation, Policy, Setup, Wish, check_options, number

OPTIONS = ("target", "activation", "polling", "cooldown", "min", "max")


class Keda:
    """Asked at each sync of the autoscaler; KEDA's own loop has its turn at every so many of them."""

    tick_s = 15.0

    def __init__(
        self, scaled: ScaledObject, metric: Metric, activation: float, polling_s: float, start_s: float
    ) -> None:
        self._scaled, self._metric, self._activation = scaled, metric, activation
        self._polling_s = polling_s
        self._polled_at = start_s - polling_s
        self._autoscaler = autoscaler_of(scaled, (metric,)).spec
        self._state, self._status = HpaState(), HorizontalPodAutoscalerStatus()

    def decide(self, seen: Observation) -> Wish:
        """The average since the last sync is what the query answers."""
        if seen.poked:
            return Wish(seen.replicas, ("it does not look between its polls",))
        seconds = seen.seconds
        value = (
            sum(second.in_flight for second in seconds) / len(seconds) if seconds else float(seen.in_flight)
        )
        active = value > self._activation
        replicas, runner_up = seen.replicas, ""
        reasons: tuple[str, ...] = ()
        if seen.now - self._polled_at >= self._polling_s - 1e-3:
            self._polled_at = seen.now
            observed = Observed(self._metric, Reading(value=value, active=active))
            round_ = poll(Poll(self._scaled, replicas, (observed,)), seen.now)
            if round_.last_active_at is not None:
                status = structs.replace(self._scaled.status, last_active_time=rfc3339(round_.last_active_at))
                self._scaled = structs.replace(self._scaled, status=status)
            replicas = replicas if round_.replicas is None else round_.replicas
            reasons, runner_up = round_.reasons, round_.runner_up
        if replicas and replicas == seen.replicas:
            return self._synced(seen, value, reasons)
        return Wish(replicas, reasons, runner_up, settled=not (replicas or active or seen.in_flight))

    def _synced(self, seen: Observation, value: float, reasons: tuple[str, ...]) -> Wish:
        asked = HpaInput(
            spec=self._autoscaler,
            wanted=seen.replicas,
            existing=seen.ready + seen.starting,
            pods=pods(seen.ready, seen.starting),
            readings=(ValueReadings((round(1000.0 * value),)),),
            status=self._status,
        )
        plan = plan_hpa(asked, self._state, seen.now)
        self._state, self._status = plan.state, plan.status
        idle = not seen.in_flight and not value and plan.desired == self._scaled.spec.min_replicas
        return Wish(plan.desired, (*plan.reasons, *reasons), plan.runner_up, settled=idle)


def build(setup: Setup, options: Mapping[str, str]) -> Policy:
    """A ScaledObject as a user would write it, with KEDA's defaults."""
    check_options("keda", options, OPTIONS)
    target = number("keda", options, "target", setup.target or DEFAULT_TARGET)
    most = int(number("keda", options, "max", setup.max_replicas))
    polling_s = number("keda", options, "polling", 30.0)
    trigger = ScaleTrigger(
        type="prometheus", metadata={"query": "sum(requests_in_flight)", "threshold": f"{target:g}"}
    )
    spec = ScaledObjectSpec(
        scale_target_ref=ScaleTarget(name="sim"),
        triggers=(trigger,),
        polling_interval=int(polling_s),
        cooldown_period=int(number("keda", options, "cooldown", 300.0)),
        min_replica_count=int(number("keda", options, "min", setup.min_replicas)),
        max_replica_count=most or None,
    )
    meta = ObjectMeta(name="sim", namespace="default", creation_timestamp=rfc3339(setup.start_s))
    metric = Metric(metric_name(0, "prometheus"), "prometheus", target)
    activation = number("keda", options, "activation", 0.0)
    return Keda(ScaledObject(metadata=meta, spec=spec), metric, activation, polling_s, setup.start_s)
