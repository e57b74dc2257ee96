"""One revision that is scaled by its requests: its settings, what is known of its demand, and what was decided last."""

from __future__ import annotations

from dataclasses import replace
from math import floor, inf

import msgspec

from penstock.contracts.controller import Key
from penstock.controlplane.autoscaling.demand import Demand
from penstock.controlplane.autoscaling.laws import Pods, Verdict, law_of
from penstock.decide import kpa
from penstock.decide.autoscaler_status import STATUS, Activity, activity, threshold, was
from penstock.decide.scale_to_zero import UNKNOWN, Applied, Seen, apply_scale
from penstock.decide.sleep import IDLE, sleep_depth
from penstock.decide.workload import SERVICE_LABEL
from penstock.kit.hashing import DRAWS, draw
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.autoscaler_config import AutoscalerConfig
from penstock.resources.autoscaler_settings import AutoscalerSettings, settings_of
from penstock.resources.pod_autoscaler import (
    INITIALIZED,
    UNREACHABLE,
    ColdStart,
    PodAutoscaler,
    RecordedDecision,
    SleepStatus,
)

KEPT_DECISIONS = 8
"""Decisions that a PodAutoscaler's status keeps."""
MOST_INPUT_BYTES = 64 << 10
"""What they rest on, together, as JSON; a forecast's memory alone is some 40 KB. The oldest go without first."""


class Revision:
    """Times are monotonic seconds."""

    def __init__(self, scaler: PodAutoscaler, config: AutoscalerConfig, now: float, wall: float) -> None:
        """As its status has it, so that a restart changes nothing."""
        self.key = Key(scaler.metadata.namespace, scaler.metadata.name)
        self.service = Key(scaler.metadata.namespace, scaler.metadata.labels.get(SERVICE_LABEL, ""))
        self.component = scaler.metadata.labels.get("component", "")
        self.settings = self._settings(scaler, config)
        self.reachable = scaler.spec.reachability != UNREACHABLE
        self.demand = Demand(self.settings)
        self.desired = UNKNOWN
        self.excess = kpa.first_excess(kpa.spec_of(self.settings))
        self.next_tick = now
        self.dirty = True
        self.decisions = scaler.status.decisions
        self._share = 0.0
        self._turn = draw("/".join(self.key)) / DRAWS
        self._resting_since: float | None = None
        conditions = scaler.status.conditions
        self.active: Activity = was(conditions)
        self.initialized = any(c.type == INITIALIZED and c.status == "True" for c in conditions)
        known = next((c.last_transition_time for c in conditions if c.type == "Active"), None)
        self.active_since = now - (max(0.0, wall - parse_rfc3339(known)) if known else 0.0)
        self._law = law_of(self.settings)

    def adapt(self, scaler: PodAutoscaler, config: AutoscalerConfig, now: float) -> None:
        """Its object, or the cluster's configuration, has changed."""
        before, self.settings = self.settings, self._settings(scaler, config)
        if before.autoscaler_class != self.settings.autoscaler_class:
            self._law = law_of(self.settings)
        self.reachable = scaler.spec.reachability != UNREACHABLE
        self.rise(now)
        self.demand.adapt(self.settings, now)
        self.dirty = True

    def tick(self, pods: Pods, now: float, wall: float) -> None:
        """Decide once. Ticks of different revisions are spread over the time between two, by their names."""
        tick_s = self._law.tick_s(self.settings)
        offset_s = tick_s * self._turn
        self.next_tick = offset_s + tick_s * (floor((now - offset_s) / tick_s) + 1)
        verdict = self._law.tick(self.settings, self.reachable, self.demand, pods, now)
        if not verdict.valid:
            return
        if verdict.desired != self.desired:
            self._keep(verdict, wall)
            self.desired, self.dirty = verdict.desired, True
        if (verdict.excess < 0) != (self.excess < 0):
            self.dirty = True
        self.excess = verdict.excess

    def rest(self, pods: Pods, now: float) -> None:
        """No more ticks at zero, from where on each would say what this one said; a thousand that sleep cost nothing."""
        if self.desired == 0 and not pods.ready and not pods.starting and self._law.rests(self.demand, now):
            self._resting_since, self.next_tick = now, inf

    def rise(self, now: float) -> None:
        """Something has happened to it; all that was told in between is silence."""
        if self._resting_since is not None:
            self.demand.quiet_since(self._resting_since, now)
            self._resting_since, self.next_tick = None, now

    def share(self, share: float, ready: int, now: float) -> None:
        """Its part of the service's traffic now, from 0 to 1."""
        if share > self._share:
            self._law.share_grows(self.settings, ready, now)
        self._share = share

    def sleep(self, known: ColdStart | None) -> SleepStatus | None:
        """How far it may sleep, by what starts take; None where nothing is promised."""
        within_s = self.settings.resume_within_s
        return None if within_s is None else sleep_depth(within_s, known)

    def apply(self, replicas: int, now: float, sleep: SleepStatus | None) -> Applied:
        """What the present decision means for a workload of so many `replicas`."""
        age_s = now - self.active_since
        seen = Seen(
            active=STATUS[self.active],
            age_s=age_s,
            reachable=self.reachable,
            initialized=self.initialized,
            replicas=replicas,
            proxied_s=age_s if self.active == "inactive" else None,
        )
        settings = self.settings
        if sleep is not None and sleep.depth == IDLE:
            settings = replace(settings, min_scale=max(1, settings.min_scale))
        return apply_scale(settings, self.desired, seen)

    def become(self, wanted: int, ready: int, now: float) -> tuple[Activity, str]:
        """The condition Active that follows, and its reason; from now on it holds."""
        least = threshold(self.settings, initialized=self.initialized, reachable=self.reachable)
        after = activity(wanted, ready, least, self.active)
        if after[0] != self.active:
            self.active, self.active_since, self.dirty = after[0], now, True
        self.initialized = self.initialized or ready >= least
        return after

    def told(self) -> tuple[RecordedDecision, ...]:
        """The last decisions as the status has them, with what they rest on as JSON as far as there is room."""
        room, told = MOST_INPUT_BYTES, []
        for one in reversed(self.decisions):
            given = msgspec.json.encode(one.input)
            room -= len(given)
            told.append(msgspec.structs.replace(one, input=msgspec.json.decode(given) if room >= 0 else None))
        self.decisions = tuple(reversed(told))
        return self.decisions

    def _before(self) -> int:
        """What held until now: after a restart the last decision, and before the first one what the revision began with."""
        if self.desired != UNKNOWN:
            return self.desired
        if self.decisions:
            return self.decisions[-1].desired
        return max(self.settings.initial_scale, self.settings.min_scale)

    def _keep(self, verdict: Verdict, wall: float) -> None:
        """What stays below the least number of pods, before and after, changes nothing."""
        before, least = self._before(), self.settings.min_scale if self.reachable else 0
        if max(verdict.desired, least) == max(before, least):
            return
        record = RecordedDecision(
            at=rfc3339(wall),
            law=self.settings.autoscaler_class,
            desired=verdict.desired,
            before=before,
            reasons=verdict.reasons,
            runner_up=verdict.runner_up,
            input=verdict.input,
        )
        self.decisions = (*self.decisions, record)[-KEPT_DECISIONS:]

    @staticmethod
    def _settings(scaler: PodAutoscaler, config: AutoscalerConfig) -> AutoscalerSettings:
        return settings_of(scaler.metadata.annotations, scaler.spec.container_concurrency, config)
