"""What do we tell about this vertical autoscaler?"""

from __future__ import annotations

from penstock.decide.scaling_conflict import REASON, Conflict
from penstock.decide.vpa import Recommendation, update_mode
from penstock.resources.conditions import dated
from penstock.resources.meta import Condition
from penstock.resources.vpa import AUTO, VerticalPodAutoscaler, VerticalPodAutoscalerStatus

PROVIDED, LOW_CONFIDENCE = "RecommendationProvided", "LowConfidence"
NO_PODS, UNSUPPORTED, DEPRECATED = "NoPodsMatched", "ConfigUnsupported", "ConfigDeprecated"
SURE_AFTER_DAYS = 1.0


def vpa_status(
    autoscaler: VerticalPodAutoscaler,
    recommendation: Recommendation,
    found: tuple[Conflict, ...],
    *,
    pods: int,
    target_problem: str,
    now: float,
) -> VerticalPodAutoscalerStatus:
    """`target_problem` says why the target cannot be read, "" if it can; `found` are autoscalers that came first."""
    containers = recommendation.resources.container_recommendations
    unsure = bool(containers) and recommendation.confidence < SURE_AFTER_DAYS
    wanted = [
        _condition(PROVIDED, bool(containers), message="" if containers else _why_none(recommendation)),
        _condition(
            LOW_CONFIDENCE,
            unsure,
            "ShortHistory",
            f"{recommendation.confidence:.2f} days of history; bounds are wide below {SURE_AFTER_DAYS:g}",
        ),
        _condition(NO_PODS, not pods, "NoPodsMatched", "no pod of the target runs"),
        _unsupported(autoscaler, found, target_problem),
        _deprecated(autoscaler),
    ]
    before = autoscaler.status.conditions
    told = {PROVIDED, *(condition.type for condition in before)}
    conditions = tuple(
        dated(condition, before, now)
        for condition in wanted
        if condition.status == "True" or condition.type in told
    )
    return VerticalPodAutoscalerStatus(
        observed_generation=autoscaler.metadata.generation or None,
        recommendation=recommendation.resources if containers else None,
        conditions=conditions,
    )


def refusal(status: VerticalPodAutoscalerStatus) -> str:
    """The message for which an autoscaler may not do what it should, "" if it may."""
    return next((c.message for c in status.conditions if c.type == UNSUPPORTED and c.status == "True"), "")


def _why_none(recommendation: Recommendation) -> str:
    return "; ".join(recommendation.reasons) or "no container was seen yet"


def _unsupported(
    autoscaler: VerticalPodAutoscaler, found: tuple[Conflict, ...], target_problem: str
) -> Condition:
    """One condition has one reason: what keeps it from working goes first."""
    if target_problem:
        return _condition(
            UNSUPPORTED, True, "TargetNotFound", f"Cannot read targetRef. Reason: {target_problem}"
        )
    if found:
        refused = sorted({resource for conflict in found for resource in conflict.resources})
        left = f"{' and '.join(refused)} of its pods is left alone: "
        return _condition(UNSUPPORTED, True, REASON, left + "; ".join(conflict.message for conflict in found))
    policy = autoscaler.spec.update_policy
    written = (policy.update_mode if policy else None) or AUTO
    if written.startswith("InPlace"):
        acts = f"{written} acts as {update_mode(autoscaler)}: processes are not resized while they run"
        return _condition(UNSUPPORTED, True, "InPlaceNotSupported", acts)
    return _condition(UNSUPPORTED, False)


def _deprecated(autoscaler: VerticalPodAutoscaler) -> Condition:
    policy = autoscaler.spec.update_policy
    is_auto = policy is not None and policy.update_mode == AUTO
    return _condition(DEPRECATED, is_auto, "UpdateModeAuto", f"updateMode {AUTO} is deprecated; use Recreate")


def _condition(type_: str, holds: bool, reason: str = "", message: str = "") -> Condition:
    """What does not hold has no more to say, unless it is a recommendation that is not there."""
    said = holds or type_ == PROVIDED
    return Condition(
        type=type_,
        status="True" if holds else "False",
        reason=reason if said else "",
        message=message if said else "",
    )
