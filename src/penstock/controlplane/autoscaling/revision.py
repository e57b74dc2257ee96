"""One revision that is scaled by its requests: its settings, what is known of its demand, and what was decided last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from penstock.contracts.controller import Key
from penstock.controlplane.autoscaling.demand import Demand
from penstock.decide import kpa
from penstock.decide.autoscaler_status import Activity, activity, threshold, was
from penstock.decide.scale_to_zero import UNKNOWN, Applied, Seen, apply_scale
from penstock.decide.workload import SERVICE_LABEL
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.autoscaler_config import AutoscalerConfig
from penstock.resources.autoscaler_settings import AutoscalerSettings, settings_of
from penstock.resources.pod_autoscaler import INITIALIZED, UNREACHABLE, PodAutoscaler, RecordedDecision

KEPT_DECISIONS = 8
"""Decisions that a PodAutoscaler's status keeps."""


class Revision:
    """Times are monotonic seconds."""

    def __init__(self, scaler: PodAutoscaler, config: AutoscalerConfig, now: float, wall: float) -> None:
        """As its status has it, so that a restart changes nothing."""
        self.key = Key(scaler.metadata.namespace, scaler.metadata.name)
        self.service = Key(scaler.metadata.namespace, scaler.metadata.labels.get(SERVICE_LABEL, ""))
        self.settings = self._settings(scaler, config)
        self.reachable = scaler.spec.reachability != UNREACHABLE
        self.demand = Demand(self.settings)
        self.desired = UNKNOWN
        self.excess = kpa.first_excess(kpa.spec_of(self.settings))
        self.next_tick = now
        self.dirty = True
        self.decisions = scaler.status.decisions
        self.share = 0.0
        conditions = scaler.status.conditions
        self.active: Activity = was(conditions)
        self.initialized = any(c.type == INITIALIZED and c.status == "True" for c in conditions)
        known = next((c.last_transition_time for c in conditions if c.type == "Active"), None)
        self.active_since = now - (max(0.0, wall - parse_rfc3339(known)) if known else 0.0)
        self._state: kpa.State | None = None

    def adapt(self, scaler: PodAutoscaler, config: AutoscalerConfig, now: float) -> None:
        """Its object, or the cluster's configuration, has changed."""
        self.settings = self._settings(scaler, config)
        self.reachable = scaler.spec.reachability != UNREACHABLE
        self.demand.adapt(self.settings, now)
        self.dirty = True

    def tick(self, ready: int, cold_start_s: float, now: float, wall: float) -> None:
        """Decide once."""
        spec = kpa.spec_of(self.settings, reachable=self.reachable, cold_start_s=cold_start_s)
        if self._state is None:
            self._state = kpa.first_state(spec, ready, now)
        stable, panic = self.demand.averages(now) or (None, None)
        seen = kpa.Observed(stable, panic, ready)
        decision = kpa.decide(spec, self._state, seen, now)
        if decision.valid:
            if decision.desired != self.desired:
                self._keep(spec, seen, decision, now, wall)
                self.desired, self.dirty = decision.desired, True
            if (decision.excess_burst_capacity < 0) != (self.excess < 0):
                self.dirty = True
            self.excess = decision.excess_burst_capacity
        self._state = decision.state

    def share_grows(self, ready: int, now: float) -> None:
        """More of the traffic comes from now on, and the windows do not know it yet: as after a restart, no pod is given up."""
        if self._state is not None and ready > 1:
            spec = kpa.spec_of(self.settings, reachable=self.reachable)
            fresh = kpa.first_state(spec, max(ready, self._state.max_panic_pods), now)
            self._state = replace(fresh, delayed=self._state.delayed)

    def apply(self, replicas: int, now: float) -> Applied:
        """What the present decision means for a workload of so many `replicas`."""
        status = {"active": "True", "inactive": "False", "activating": "Unknown"}[self.active]
        age_s = now - self.active_since
        seen = Seen(
            active=status,  # type: ignore[arg-type]
            age_s=age_s,
            reachable=self.reachable,
            initialized=self.initialized,
            replicas=replicas,
            proxied_s=age_s if self.active == "inactive" else None,
        )
        return apply_scale(self.settings, self.desired, seen)

    def become(self, wanted: int, ready: int, now: float) -> tuple[Activity, str]:
        """The condition Active that follows, and its reason; from now on it holds."""
        least = threshold(self.settings, initialized=self.initialized)
        after = activity(wanted, ready, least, self.active)
        if after[0] != self.active:
            self.active, self.active_since, self.dirty = after[0], now, True
        self.initialized = self.initialized or ready >= least
        return after

    def _keep(
        self, spec: kpa.Spec, seen: kpa.Observed, decision: kpa.Decision, now: float, wall: float
    ) -> None:
        given: dict[str, Any] = {"spec": spec, "state": self._state, "seen": seen, "now": now}
        record = RecordedDecision(
            at=rfc3339(wall),
            law=self.settings.autoscaler_class,
            desired=decision.desired,
            before=max(self.desired, 0),
            reasons=decision.reasons,
            runner_up=decision.runner_up,
            input=msgspec.to_builtins(given),
        )
        self.decisions = (*self.decisions, record)[-KEPT_DECISIONS:]

    @staticmethod
    def _settings(scaler: PodAutoscaler, config: AutoscalerConfig) -> AutoscalerSettings:
        return settings_of(scaler.metadata.annotations, scaler.spec.container_concurrency, config)
