"""How many pods should this autoscaler's target have now?

HorizontalPodAutoscaler of Kubernetes' autoscaling/v2, one sync: every metric proposes a number (`hpa_metric.py`,
`hpa_replicas.py`), the greatest counts, and what may be done of it now is limited (`hpa_behavior.py`). Conditions, reasons and
messages are Kubernetes'. A metric that fails forbids to shrink, never to grow; when all fail, nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import structs

from penstock.decide.hpa_behavior import (
    WITHIN,
    Bounds,
    HpaState,
    Limited,
    Recommendation,
    after_scaling,
    limit,
)
from penstock.decide.hpa_metric import Failure, Proposal, Reading, Target, propose
from penstock.decide.hpa_replicas import HpaSettings, PodState, Tolerances
from penstock.decide.scaling_conflict import REASON as CONFLICT
from penstock.kit.quantity import parse_quantity
from penstock.kit.timestamps import rfc3339
from penstock.resources.autoscaling import (
    HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus,
    HPAScalingRules,
    MetricSpec,
    MetricStatus,
    MetricTarget,
    ResourceMetricSource,
)
from penstock.resources.conditions import dated
from penstock.resources.meta import Condition

DEFAULT_METRICS = (
    MetricSpec(
        type="Resource",
        resource=ResourceMetricSource(
            name="cpu", target=MetricTarget(type="Utilization", average_utilization=80)
        ),
    ),
)
GOT_SCALE = ("SucceededGetScale", "the HPA controller was able to get the target's current scale")
DISABLED = ("ScalingDisabled", "scaling is disabled since the replica count of the target is zero")


@dataclass(frozen=True, slots=True)
class HpaInput:
    """All that a sync looks at. `readings` are one per metric of the spec, in its order.

    `wanted` and `existing` are the target's `spec.replicas` and `status.replicas`. `forbidden` is reason and message of
    what lets nobody scale by metrics (InvalidSelector, AmbiguousSelector), or None. `rival` says which autoscaler of another
    kind came first, or is "": its target is not touched at all then, not even to bring it within bounds.
    """

    spec: HorizontalPodAutoscalerSpec
    wanted: int
    existing: int
    pods: tuple[PodState, ...] = ()
    readings: tuple[Reading, ...] = ()
    status: HorizontalPodAutoscalerStatus = field(default_factory=HorizontalPodAutoscalerStatus)
    namespace: str = "default"
    forbidden: tuple[str, str] | None = None
    rival: str = ""
    settings: HpaSettings = field(default_factory=HpaSettings)


@dataclass(frozen=True, slots=True)
class HpaPlan:
    """What to do. If `rescale`, write `desired` to the target, and then `status` and `state`; `unscaled` keeps them if that fails.

    `events` are type, reason and message. `proposals` are what each metric asked for, None where it failed.
    """

    desired: int
    rescale: bool
    status: HorizontalPodAutoscalerStatus
    state: HpaState
    events: tuple[tuple[str, str, str], ...] = ()
    proposals: tuple[int | None, ...] = ()
    rescale_reason: str = ""
    reasons: tuple[str, ...] = ()
    runner_up: str = ""


def plan_hpa(seen: HpaInput, state: HpaState, now: float) -> HpaPlan:
    """One sync. `now` and all times are in seconds since the epoch."""
    spec = seen.spec
    least = 1 if spec.min_replicas is None else spec.min_replicas
    if not state.recommendations:
        # What runs when nothing is remembered, as after a restart, holds for a whole window.
        state = HpaState((Recommendation(seen.wanted, now),), state.added, state.removed)
    draft = _Draft(seen, now).say("AbleToScale", "True", *GOT_SCALE)
    if seen.rival:
        return draft.refused(state, CONFLICT, seen.rival)
    if seen.wanted == 0 and least != 0:
        draft.say("ScalingActive", "False", *DISABLED)
        return draft.kept(state, DISABLED[1])
    if seen.wanted > spec.max_replicas:
        return draft.rescaled(spec.max_replicas, state, "Current number of replicas above Spec.MaxReplicas")
    if seen.wanted < least:
        return draft.rescaled(least, state, "Current number of replicas below Spec.MinReplicas")
    if seen.forbidden is not None:
        return draft.refused(state, *seen.forbidden)
    return _by_metrics(draft, Bounds(seen.wanted, least, spec.max_replicas), state)


def failed_to_scale(seen: HpaInput, plan: HpaPlan, before: HpaState, problem: str, now: float) -> HpaPlan:
    """The plan after its number could not be written to the target: nothing was scaled, and the status says so."""
    message = f"the HPA controller was unable to update the target scale: {problem}"
    draft = _Draft(seen, now, list(plan.status.conditions), plan.status.current_metrics)
    draft.say("AbleToScale", "False", "FailedUpdateScale", message)
    text = f"New size: {plan.desired}; reason: {plan.rescale_reason}; error: {problem}"
    draft.tell("Warning", "FailedRescale", text)
    return draft.stuck(HpaState(plan.state.recommendations, before.added, before.removed), message)


def without_scale(
    status: HorizontalPodAutoscalerStatus, problem: str, now: float
) -> HorizontalPodAutoscalerStatus:
    """The status while the target itself cannot be read."""
    message = f"the HPA controller was unable to get the target's current scale: {problem}"
    conditions = with_condition(status.conditions, "AbleToScale", "False", "FailedGetScale", message, now)
    return structs.replace(status, conditions=conditions)


def with_condition(
    conditions: tuple[Condition, ...], type_: str, status: str, reason: str, message: str, now: float
) -> tuple[Condition, ...]:
    """The list with this condition in its place; its time of transition moves only when its status does."""
    known = next((c for c in conditions if c.type == type_), None)
    new = dated(Condition(type=type_, status=status, reason=reason, message=message), conditions, now)
    if known is None:
        return (*conditions, new)
    return tuple(new if c.type == type_ else c for c in conditions)


class _Draft:
    """A plan in the making: conditions, Events and reasons gather here."""

    def __init__(
        self,
        seen: HpaInput,
        now: float,
        conditions: list[Condition] | None = None,
        metrics: tuple[MetricStatus, ...] = (),
    ) -> None:
        self.seen = seen
        self.now = now
        self.metrics = metrics
        self.proposals: tuple[int | None, ...] = ()
        self.reasons: list[str] = []
        self.runner_up = ""
        self._conditions = tuple(seen.status.conditions if conditions is None else conditions)
        self._events: list[tuple[str, str, str]] = []

    def say(self, type_: str, status: str, reason: str, message: str) -> _Draft:
        """Set a condition."""
        self._conditions = with_condition(self._conditions, type_, status, reason, message, self.now)
        return self

    def tell(self, type_: str, reason: str, message: str) -> _Draft:
        """Add an Event."""
        self._events.append((type_, reason, message))
        return self

    def kept(self, state: HpaState, why: str = "") -> HpaPlan:
        """Nothing to write to the target."""
        return self._plan(self.seen.wanted, self.seen.wanted, state, rescale=False, why=why)

    def stuck(self, state: HpaState, why: str) -> HpaPlan:
        """Nothing could be decided: the status goes on saying what was last desired."""
        return self._plan(self.seen.wanted, self.seen.status.desired_replicas, state, rescale=False, why=why)

    def refused(self, state: HpaState, reason: str, message: str) -> HpaPlan:
        """It must not scale."""
        self.say("ScalingActive", "False", reason, message).tell("Warning", reason, message)
        return self.tell("Warning", "FailedComputeMetricsReplicas", message).stuck(state, message)

    def rescaled(self, desired: int, state: HpaState, why: str) -> HpaPlan:
        """The target gets another number."""
        message = f"the HPA controller was able to update the target scale to {desired}"
        self.say("AbleToScale", "True", "SucceededRescale", message)
        self.tell("Normal", "SuccessfulRescale", f"New size: {desired}; reason: {why}")
        change = desired - self.seen.wanted
        state = after_scaling(state, self.seen.spec.behavior, self.seen.settings, change, self.now)
        return self._plan(desired, desired, state, rescale=True, why=why)

    def _plan(self, desired: int, told: int, state: HpaState, *, rescale: bool, why: str) -> HpaPlan:
        before = self.seen.status
        status = structs.replace(
            before,
            current_replicas=self.seen.wanted,
            desired_replicas=told,
            current_metrics=self.metrics,
            conditions=self._conditions,
            last_scale_time=rfc3339(self.now) if rescale else before.last_scale_time,
        )
        return HpaPlan(
            desired=desired,
            rescale=rescale,
            status=status,
            state=state,
            events=tuple(self._events),
            proposals=self.proposals,
            rescale_reason=why if rescale else "",
            reasons=(*self.reasons, why) if why else tuple(self.reasons),
            runner_up=self.runner_up,
        )


def _by_metrics(draft: _Draft, bounds: Bounds, state: HpaState) -> HpaPlan:
    seen = draft.seen
    results = _results(draft)
    proposals = [result for result in results if isinstance(result, Proposal)]
    failures = [result for result in results if isinstance(result, Failure)]
    best = max(proposals, key=lambda proposal: proposal.replicas, default=None)
    _explain(draft, results, best)
    if failures:
        text = f"invalid metrics ({len(failures)} invalid out of {len(results)}), first error is: {failures[0].chain}"
        if best is None or best.replicas < bounds.current:
            message = f"the HPA was unable to compute the replica count: {failures[0].message}"
            draft.say("ScalingActive", "False", failures[0].reason, message)
            return draft.tell("Warning", "FailedComputeMetricsReplicas", text).stuck(state, text)
        draft.reasons.append(f"{text}; growing goes on without")
    assert best is not None
    found = f"the HPA was able to successfully calculate a replica count from {best.metric}"
    draft.say("ScalingActive", "True", "ValidMetricFound", found)
    why = ""
    if best.replicas > bounds.current:
        why = f"{best.metric} above target"
    elif best.replicas < bounds.current:
        why = "All metrics below target"
    limited = limit(best.replicas, bounds, seen.spec.behavior, state, seen.settings, draft.now)
    _tell_limits(draft, best.replicas, limited)
    if limited.replicas == bounds.current:
        return draft.kept(limited.state)
    return draft.rescaled(limited.replicas, limited.state, why)


def _results(draft: _Draft) -> list[Proposal | Failure]:
    """What each metric says. A failed one keeps an empty place in the status: kubectl counts places."""
    seen = draft.seen
    target = Target(seen.namespace, seen.wanted, seen.existing, seen.pods)
    tolerances = _tolerances(seen)
    results = [
        propose(metric, reading, target, tolerances, seen.settings, draft.now)
        for metric, reading in zip(metrics_of(seen.spec), seen.readings, strict=True)
    ]
    draft.proposals = tuple(r.replicas if isinstance(r, Proposal) else None for r in results)
    draft.metrics = tuple(r.status if isinstance(r, Proposal) else MetricStatus(type="") for r in results)
    for result in results:
        if isinstance(result, Failure):
            draft.tell("Warning", result.reason, result.message)
    return results


def metrics_of(spec: HorizontalPodAutoscalerSpec) -> tuple[MetricSpec, ...]:
    """The metrics of the spec; without any, 80 % of the requested CPU."""
    return spec.metrics or DEFAULT_METRICS


def _explain(draft: _Draft, results: list[Proposal | Failure], best: Proposal | None) -> None:
    for result in results:
        if isinstance(result, Proposal):
            draft.reasons.append(f"{result.metric} asks for {result.replicas}")
        else:
            draft.reasons.append(result.message)
    others = [r for r in results if isinstance(r, Proposal) and r is not best]
    second = max(others, key=lambda proposal: proposal.replicas, default=None)
    if second is not None:
        draft.runner_up = f"{second.replicas}, which {second.metric} asks for"


def _tell_limits(draft: _Draft, desired: int, limited: Limited) -> None:
    draft.say("AbleToScale", "True", *limited.able)
    held = limited.replicas != limited.stabilized
    draft.say("ScalingLimited", "True" if held else "False", *limited.limited)
    if limited.stabilized != desired:
        draft.reasons.append(f"{limited.able[1]}: {limited.stabilized} instead of {desired}")
    if limited.limited != WITHIN:
        draft.reasons.append(f"{limited.limited[1]}: {limited.replicas}")
    if limited.replicas != desired and not draft.runner_up:
        draft.runner_up = f"{desired}, which the metrics ask for"


def _tolerances(seen: HpaInput) -> Tolerances:
    behavior = seen.spec.behavior

    def share(rules: HPAScalingRules | None) -> float:
        if rules is None or rules.tolerance is None:
            return seen.settings.tolerance
        return float(parse_quantity(rules.tolerance))

    if behavior is None:
        return Tolerances(seen.settings.tolerance, seen.settings.tolerance)
    return Tolerances(share(behavior.scale_up), share(behavior.scale_down))
