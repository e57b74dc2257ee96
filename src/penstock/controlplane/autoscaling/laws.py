"""The laws that a revision may be scaled by, each with its own memory: Knative's, and the forecast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from penstock.controlplane.autoscaling.demand import Demand
from penstock.decide import forecast, kpa
from penstock.resources.autoscaler_settings import FORECAST_CLASS, AutoscalerSettings


@dataclass(frozen=True, slots=True)
class Pods:
    """The revision's pods that count, and how long one more would take."""

    ready: int
    starting: int = 0
    cold_start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a law says; `input` is all that it rests on, to take the decision again. `valid` False: the last one goes on."""

    desired: int
    excess: int
    valid: bool
    reasons: tuple[str, ...]
    runner_up: str
    input: dict[str, Any]


class Law(Protocol):
    """One revision's."""

    def tick_s(self, settings: AutoscalerSettings) -> float:
        """How often it decides."""
        ...

    def tick(
        self, settings: AutoscalerSettings, reachable: bool, demand: Demand, pods: Pods, now: float
    ) -> Verdict:
        """Decide once; `now` in monotonic seconds."""
        ...

    def rests(self, demand: Demand, now: float) -> bool:
        """Whether, without pods, silence changes nothing any more."""
        ...

    def share_grows(self, settings: AutoscalerSettings, ready: int, now: float) -> None:
        """More of the traffic comes from now on than what was seen so far tells."""
        ...


class KnativeLaw:
    """By averages over a stable and a panic window."""

    def __init__(self) -> None:
        """The first tick makes the state, when the pods are known."""
        self._state: kpa.State | None = None
        self._spec: tuple[AutoscalerSettings, bool, float, kpa.Spec] | None = None

    def tick_s(self, settings: AutoscalerSettings) -> float:
        """As the profile says."""
        return settings.tick_s

    def tick(
        self, settings: AutoscalerSettings, reachable: bool, demand: Demand, pods: Pods, now: float
    ) -> Verdict:
        """See `decide/kpa.py`."""
        spec = self._spec_of(settings, reachable, pods.cold_start_s)
        before = self._state or kpa.first_state(spec, pods.ready, now)
        stable, panic = demand.averages(now) or (None, None)
        seen = kpa.Observed(stable, panic, pods.ready)
        said = kpa.decide(spec, before, seen, now)
        self._state = said.state
        given = {"spec": spec, "state": before, "seen": seen, "now": now}
        return Verdict(
            said.desired, said.excess_burst_capacity, said.valid, said.reasons, said.runner_up, given
        )

    def _spec_of(self, settings: AutoscalerSettings, reachable: bool, cold_start_s: float) -> kpa.Spec:
        """Made once for as long as nothing of it changes."""
        known = self._spec
        if known is None or known[0] is not settings or known[1:3] != (reachable, cold_start_s):
            spec = kpa.spec_of(settings, reachable=reachable, cold_start_s=cold_start_s)
            known = self._spec = (settings, reachable, cold_start_s, spec)
        return known[3]

    def rests(self, demand: Demand, now: float) -> bool:
        """Nothing in the windows, no panic, and nothing that was wanted within the scale-down delay."""
        state = self._state
        if state is None or state.panic_since is not None or any(wish for _, wish in state.delayed or ()):
            return False
        return demand.averages(now) == (0.0, 0.0)

    def share_grows(self, settings: AutoscalerSettings, ready: int, now: float) -> None:
        """As after a restart: no pod is given up before a stable window has passed."""
        if self._state is not None and ready > 1:
            fresh = kpa.first_state(kpa.spec_of(settings), max(ready, self._state.max_panic_pods), now)
            self._state = replace(fresh, delayed=self._state.delayed)


class ForecastLaw:
    """By a forecast over a cold start, and what a replica was measured to bear within the promised time to a first token."""

    def __init__(self) -> None:
        """Nothing was seen."""
        self._state = forecast.State()
        self._ticked_at: float | None = None

    def tick_s(self, settings: AutoscalerSettings) -> float:
        """Its own step: there is nothing to decide within one."""
        return forecast.STEP_S

    def tick(
        self, settings: AutoscalerSettings, reachable: bool, demand: Demand, pods: Pods, now: float
    ) -> Verdict:
        """See `decide/forecast.py`."""
        spec = _promise(settings)
        passed_s = forecast.STEP_S if self._ticked_at is None else max(now - self._ticked_at, 1e-3)
        self._ticked_at = now
        tally = demand.take()
        seen = forecast.Seen(
            window_s=passed_s,
            requests=tally.requests,
            in_flight=tally.area_s / passed_s,
            prompt_tokens=tally.prompt_tokens,
            ready=pods.ready,
            starting=pods.starting,
            ttft=tally.ttft,
            cold_start_s=pods.cold_start_s,
        )
        before = self._state
        said = forecast.decide(spec, before, seen, now)
        self._state = said.state
        given = {"spec": spec, "state": before, "seen": seen, "now": now}
        return Verdict(said.desired, 0, True, said.reasons, said.runner_up, given)

    def rests(self, demand: Demand, now: float) -> bool:
        """It learns from silence too, as of the time of day."""
        return False

    def share_grows(self, settings: AutoscalerSettings, ready: int, now: float) -> None:
        """Its memory is of demand, which comes anew with the share; what was wanted last holds until then."""
        self._state = msgspec.structs.replace(self._state, desired=max(self._state.desired, ready))


def law_of(settings: AutoscalerSettings) -> Law:
    """By the class; Knative's for every class that nobody here knows."""
    return ForecastLaw() if settings.autoscaler_class == FORECAST_CLASS else KnativeLaw()


def _promise(settings: AutoscalerSettings) -> forecast.Spec:
    slo_s = settings.ttft_slo_s
    return forecast.Spec(
        ttft_s=forecast.Spec().ttft_s if slo_s is None else slo_s,
        target=settings.target,
        min_replicas=settings.min_scale,
        max_replicas=settings.max_scale,
        retention_s=max(settings.stable_window_s, settings.pod_retention_period_s),
    )
