"""Kubernetes' HorizontalPodAutoscaler on concurrency: a Pods metric, requests in flight at each pod, with the default behaviour.

Options: `target` (requests at once per pod), `min`, `max`, `down-window` (s). A pod that starts has no sample yet, as on a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from penstock.decide.hpa import HpaInput, plan_hpa
from penstock.decide.hpa_behavior import HpaState
from penstock.decide.hpa_metric import PodReadings
from penstock.decide.hpa_replicas import PodSample, PodState
from penstock.resources.autoscaling import (
    CrossVersionObjectReference,
    HorizontalPodAutoscalerBehavior,
    HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus,
    HPAScalingRules,
    MetricIdentifier,
    MetricSpec,
    MetricTarget,
    PodsMetricSource,
)
from penstock.testing.sim.policy import Observation, Policy, Setup, Wish, check_options, number

DEFAULT_TARGET = 70.0
"""What Knative's defaults (100 at 70 %) come to; HPA has no default of its own for such a metric."""
MAX_REPLICAS = 1000
OPTIONS = ("target", "min", "max", "down-window")


class Hpa:
    """One sync each 15 s, as the controller's flag has it."""

    tick_s = 15.0

    def __init__(self, spec: HorizontalPodAutoscalerSpec) -> None:
        self._spec = spec
        self._state = HpaState()
        self._status = HorizontalPodAutoscalerStatus()

    def decide(self, seen: Observation) -> Wish:
        """The average since the last sync is each ready pod's sample."""
        if seen.poked:
            return Wish(seen.replicas, ("it does not look between its syncs",))
        seconds = seen.seconds
        mean = (
            sum(second.in_flight for second in seconds) / len(seconds) if seconds else float(seen.in_flight)
        )
        milli = round(1000.0 * mean / max(1, seen.ready))
        sample = PodSample(milli, seen.now, self.tick_s)
        asked = HpaInput(
            spec=self._spec,
            wanted=seen.replicas,
            existing=seen.ready + seen.starting,
            pods=pods(seen.ready, seen.starting),
            readings=(PodReadings({f"ready-{n}": sample for n in range(seen.ready)}),),
            status=self._status,
        )
        plan = plan_hpa(asked, self._state, seen.now)
        self._state, self._status = plan.state, plan.status
        idle = not seen.in_flight and not mean and plan.desired == (self._spec.min_replicas or 1)
        return Wish(plan.desired, plan.reasons, plan.runner_up, settled=idle)


@lru_cache(maxsize=256)
def pods(ready: int, starting: int) -> tuple[PodState, ...]:
    """As the autoscaler sees them."""
    return (
        *(PodState(f"ready-{n}") for n in range(ready)),
        *(PodState(f"starting-{n}", ready=False) for n in range(starting)),
    )


def build(setup: Setup, options: Mapping[str, str]) -> Policy:
    """It never goes below one pod."""
    check_options("hpa", options, OPTIONS)
    target = number("hpa", options, "target", setup.target or DEFAULT_TARGET)
    down_s = number("hpa", options, "down-window", 300.0)
    metric = PodsMetricSource(
        metric=MetricIdentifier(name="requests_in_flight"),
        target=MetricTarget(type="AverageValue", average_value=f"{round(target * 1000)}m"),
    )
    spec = HorizontalPodAutoscalerSpec(
        scale_target_ref=CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="sim"),
        min_replicas=int(number("hpa", options, "min", max(1, setup.min_replicas))),
        max_replicas=int(number("hpa", options, "max", setup.max_replicas or MAX_REPLICAS)),
        metrics=(MetricSpec(type="Pods", pods=metric),),
        behavior=HorizontalPodAutoscalerBehavior(
            scale_down=HPAScalingRules(stabilization_window_seconds=int(down_s))
        ),
    )
    return Hpa(spec)
