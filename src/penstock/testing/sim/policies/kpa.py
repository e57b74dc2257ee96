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
from penstock.decide.sampling import FIRST_STAT, settled
from penstock.decide.scale_to_zero import UNKNOWN, Active, Applied, Seen, apply_scale
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
from penstock.resources.validate_autoscaling import scaling_problems
from penstock.testing.sim.policy import Observation, Policy, Second, Setup, Wish, check_options

KEYS = (*sorted(set(ALIASES.values())), "metric", "profile", "target", "window")

STATUS: Mapping[Activity, Active] = {"active": "True", "activating": "Unknown", "inactive": "False"}


class Averages:
    """The stable and the panic window, fed with what the gateway reports each second, while nothing is asked for too."""

    def __init__(self, settings: AutoscalerSettings) -> None:
        kind = ExponentialWindow if settings.algorithm == EXPONENTIAL else LinearWindow
        self.stable, self.panic = kind(settings.stable_window_s), kind(settings.panic_window_s)
        self._longest_s, self._shortest_s = ceil(settings.stable_window_s), ceil(settings.panic_window_s)
        self._last: int | None = None
        self._told_early: int | None = None

    def record(self, seen: Observation, metric: str) -> None:
        """A poke counts one request at once, and not again in its second's report."""
        for second in seen.seconds:
            value = _value(second, metric, seen.ready)
            if second.at == self._told_early:
                value = settled(value, FIRST_STAT)
            if value:
                self._add(second.at, value)
        if seen.seconds and self._last != seen.seconds[-1].at:
            self._add(seen.seconds[-1].at, 0.0)
        if seen.poked:
            self._told_early = floor(seen.now) + 1
            self._add(floor(seen.now), FIRST_STAT)

    def _add(self, at: int, value: float) -> None:
        """Windows take seconds between two values for zeros, unless there are more than they hold: those are told, as the gateway does."""
        if self._last is not None and at - self._last >= self._shortest_s:
            for silent in range(max(self._last + 1, at - self._longest_s), at):
                self.stable.record(silent, 0.0)
                self.panic.record(silent, 0.0)
        self.stable.record(at, value)
        self.panic.record(at, value)
        self._last = at


class Kpa:
    """A revision with all of the traffic."""

    def __init__(self, settings: AutoscalerSettings, setup: Setup) -> None:
        self.tick_s = settings.tick_s
        self._settings = settings
        self._averages = Averages(settings)
        self._spec = kpa.spec_of(settings)
        self._state = kpa.first_state(self._spec, setup.initial, setup.start_s)
        self._desired = UNKNOWN
        self._active: tuple[Activity, float] = "activating", setup.start_s
        self._initialized = False

    def decide(self, seen: Observation) -> Wish:
        """One tick, or a poke."""
        settings, now = self._settings, seen.now
        self._averages.record(seen, settings.metric)
        if settings.starts_aware and seen.cold_starts_s:
            self._spec = replace(self._spec, cold_start_s=seen.expected_start_s)
        observed = self._observed(seen)
        decision = kpa.decide(self._spec, self._state, observed, now)
        self._state = decision.state
        if decision.valid:
            self._desired = decision.desired
        active, since = self._active
        age_s = now - since
        applied = apply_scale(
            settings,
            self._desired,
            Seen(
                active=STATUS[active],
                age_s=age_s,
                initialized=self._initialized,
                replicas=seen.replicas,
                proxied_s=age_s if active == "inactive" else None,
            ),
        )
        self._turn(applied, seen)
        desired = seen.replicas if applied.replicas is None else applied.replicas
        reasons = (*decision.reasons, applied.reason) if applied.reason else decision.reasons
        silent = not (observed.stable or observed.panic or seen.in_flight)
        settled = silent and self._is_settled(applied, seen.replicas, desired)
        return Wish(desired, reasons, decision.runner_up, settled)

    def _observed(self, seen: Observation) -> kpa.Observed:
        averages = self._averages
        if averages.stable.is_empty(seen.now):
            return kpa.Observed(None, None, seen.ready)
        return kpa.Observed(averages.stable.average(seen.now), averages.panic.average(seen.now), seen.ready)

    def _turn(self, applied: Applied, seen: Observation) -> None:
        """The condition Active."""
        least = threshold(self._settings, initialized=self._initialized)
        self._initialized = self._initialized or seen.ready >= least
        before, since = self._active
        becomes, _ = activity(applied.wanted, seen.ready, least, before)
        self._active = becomes, since if becomes == before else seen.now

    def _is_settled(self, applied: Applied, replicas: int, desired: int) -> bool:
        """Without demand nothing will change: no panic, no delay, no part of the way to zero is under way."""
        wishes = [wish for _, wish in self._state.delayed or ()]
        calm = self._state.panic_since is None and (not wishes or max(wishes) == wishes[-1])
        return calm and applied.again_s is None and max(applied.wanted, 0) == desired == replicas


def _value(second: Second, metric: str, ready: int) -> float:
    """A wait is the same for all replicas, so it counts for each of them: the target is per replica."""
    if metric == "concurrency":
        return second.in_flight
    if metric == "rps":
        return float(second.requests)
    return second.tokens_in_flight if metric == "in-flight-tokens" else second.queue_wait_s * max(1, ready)


def build(setup: Setup, options: Mapping[str, str]) -> Policy:
    """Settings that the service's annotations would come to."""
    check_options("kpa", options, KEYS)
    given = {"min-scale": str(setup.min_replicas), "max-scale": str(setup.max_replicas)}
    given["initial-scale"] = str(setup.initial)
    if setup.target is not None:
        given |= {"target": str(setup.target), "target-utilization-percentage": "100"}
    annotations = {_annotation(key, value): value for key, value in (given | dict(options)).items()}
    config = replace(DEFAULTS, allow_zero_initial_scale=True)
    problems = scaling_problems(annotations, config)
    if problems:
        raise InvalidInput(f"--policy kpa: {'; '.join(problems)}")
    settings = settings_of(annotations, setup.container_concurrency, config)
    if settings.metric == "kv-cache-use":
        raise InvalidInput("--policy kpa: metric: simulated engines do not report kv-cache-use")
    return Kpa(settings, setup)


def _annotation(key: str, value: str) -> str:
    if key == "profile":
        return PROFILE
    return METRIC if key == "metric" and value in OWN_METRICS else DOMAIN + key
