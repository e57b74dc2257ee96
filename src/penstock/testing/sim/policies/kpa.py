"""Knative's law as the platform runs it: windows, panic, bounds, and both parts of the way to zero.

Options are Knative's annotations by their short names (`kpa:window=30s,target=20,min-scale=1`), with `profile=gpu` for the platform's GPU
profile and `metric` also for its own metrics (in-flight-tokens, queue-wait).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, floor

from penstock.decide import kpa
from penstock.decide.autoscaler_status import Activity, activity, threshold
from penstock.decide.scale_to_zero import UNKNOWN, Active, Applied, Seen, apply_scale, mode_of
from penstock.kit.errors import InvalidInput
from penstock.kit.windows import ExponentialWindow, LinearWindow
from penstock.resources.autoscaler_config import DEFAULTS
from penstock.resources.autoscaler_settings import (
    ALIASES,
    DOMAIN,
    EXPONENTIAL,
    METRIC,
    OWN_METRICS,
    PROFILE,
    AutoscalerSettings,
    settings_of,
)
from penstock.testing.sim.policy import Observation, Policy, Second, Setup, Wish, check_options

KEYS = (*sorted(set(ALIASES.values())), "metric", "profile", "target", "window")

STATUS: Mapping[Activity, Active] = {"active": "True", "activating": "Unknown", "inactive": "False"}


class Averages:
    """The stable and the panic window, fed as the gateway and the pods feed them."""

    def __init__(self, settings: AutoscalerSettings) -> None:
        kind = ExponentialWindow if settings.algorithm == EXPONENTIAL else LinearWindow
        self.stable, self.panic = kind(settings.stable_window_s), kind(settings.panic_window_s)
        self._kept_s = ceil(settings.stable_window_s)
        self._last: int | None = None
        self._told_early: int | None = None
        self._measured = False

    def record(self, seen: Observation, metric: str) -> None:
        """Without a ready pod, seconds without demand are not measured by anybody. Ready pods did report while the law slept."""
        for second in seen.seconds:
            self._fill(second.at)
            value = _value(second, metric)
            if second.at == self._told_early:
                value = max(0.0, value - 1.0)
            if value > 0.0 or seen.ready:
                self._add(second.at, value)
            self._last = second.at
        if seen.poked and metric == "concurrency":
            self._told_early = floor(seen.now) + 1
            self._add(floor(seen.now), 1.0)
        self._measured = seen.ready > 0

    def _fill(self, at: int) -> None:
        if self._measured and self._last is not None:
            for slept in range(max(self._last + 1, at - self._kept_s), at):
                self._add(slept, 0.0)

    def _add(self, at: int, value: float) -> None:
        self.stable.record(at, value)
        self.panic.record(at, value)


class Kpa:
    """A revision with all of the traffic."""

    def __init__(self, settings: AutoscalerSettings, setup: Setup) -> None:
        self.tick_s = settings.tick_s
        self._settings = settings
        self._averages = Averages(settings)
        self._spec = kpa.spec_of(settings)
        self._state = kpa.first_state(self._spec, setup.initial, setup.start_s)
        self._desired, self._excess = UNKNOWN, kpa.first_excess(self._spec)
        self._active: tuple[Activity, float] = "activating", setup.start_s
        self._proxied_since: float | None = None
        self._initialized = False

    def decide(self, seen: Observation) -> Wish:
        """One tick, or a poke."""
        settings, now = self._settings, seen.now
        self._averages.record(seen, settings.metric)
        if settings.starts_aware and seen.cold_starts_s:
            self._spec = replace(self._spec, cold_start_s=seen.expected_start_s)
        decision = kpa.decide(self._spec, self._state, self._observed(seen), now)
        self._state = decision.state
        if decision.valid:
            self._desired, self._excess = decision.desired, decision.excess_burst_capacity
        active, since = self._active
        proxied_s = None if self._proxied_since is None else now - self._proxied_since
        applied = apply_scale(
            settings,
            self._desired,
            Seen(
                active=STATUS[active],
                age_s=now - since,
                initialized=self._initialized,
                replicas=seen.replicas,
                proxied_s=proxied_s,
            ),
        )
        self._turn(applied, seen)
        desired = seen.replicas if applied.replicas is None else applied.replicas
        reasons = (*decision.reasons, applied.reason) if applied.reason else decision.reasons
        settled = self._is_settled(applied, seen, desired)
        return Wish(desired, reasons, decision.runner_up, settled)

    def _observed(self, seen: Observation) -> kpa.Observed:
        averages = self._averages
        if averages.stable.is_empty(seen.now):
            return kpa.Observed(None, None, seen.ready)
        return kpa.Observed(averages.stable.average(seen.now), averages.panic.average(seen.now), seen.ready)

    def _turn(self, applied: Applied, seen: Observation) -> None:
        """The condition Active, and the mode."""
        least = threshold(self._settings, initialized=self._initialized)
        self._initialized = self._initialized or seen.ready >= least
        before, since = self._active
        becomes, _ = activity(applied.wanted, seen.ready, least, before)
        self._active = becomes, since if becomes == before else seen.now
        mode = mode_of(applied.wanted, self._excess, inactive=becomes == "inactive")
        if mode == "Serve":
            self._proxied_since = None
        elif self._proxied_since is None:
            self._proxied_since = seen.now

    def _is_settled(self, applied: Applied, seen: Observation, desired: int) -> bool:
        averages, now = self._averages, seen.now
        silent = averages.stable.average(now) == 0.0 and averages.panic.average(now) == 0.0
        wishes = [wish for _, wish in self._state.delayed or ()]
        calm = self._state.panic_since is None and (not wishes or max(wishes) == wishes[-1])
        steady = max(applied.wanted, 0) == desired == seen.replicas and applied.again_s is None
        return silent and calm and steady and not seen.in_flight


def _value(second: Second, metric: str) -> float:
    if metric == "concurrency":
        return second.in_flight
    if metric == "rps":
        return float(second.requests)
    return second.tokens_in_flight if metric == "in-flight-tokens" else second.queue_wait_s


def build(setup: Setup, options: Mapping[str, str]) -> Policy:
    """Settings that the service's annotations would come to."""
    check_options("kpa", options, KEYS)
    given = {"min-scale": str(setup.min_replicas), "max-scale": str(setup.max_replicas)}
    given["initial-scale"] = str(setup.initial)
    if setup.target is not None:
        given |= {"target": str(setup.target), "target-utilization-percentage": "100"}
    annotations = {_annotation(key, value): value for key, value in (given | dict(options)).items()}
    config = replace(DEFAULTS, allow_zero_initial_scale=True)
    settings = settings_of(annotations, setup.container_concurrency, config)
    if settings.metric == "kv-cache-use":
        raise InvalidInput("--policy kpa: metric: simulated engines do not report kv-cache-use")
    return Kpa(settings, setup)


def _annotation(key: str, value: str) -> str:
    if key == "profile":
        return PROFILE
    return METRIC if key == "metric" and value in OWN_METRICS else DOMAIN + key
