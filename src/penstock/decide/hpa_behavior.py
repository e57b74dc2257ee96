"""By how much may the number of pods change now?

Kubernetes' autoscaling/v2: first stabilise against the recommendations of the past, then limit the rate by what was added and
removed in each policy's period, then keep to the bounds. Without `behavior` its older rules hold: shrink to the highest
recommendation of the last minutes, at most double (or reach 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from msgspec import structs

from penstock.decide.hpa_replicas import HpaSettings
from penstock.resources.autoscaling import (
    HorizontalPodAutoscalerBehavior,
    HPAScalingPolicy,
    HPAScalingRules,
)

DOWN_STABILIZED = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
UP_STABILIZED = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
READY = ("ReadyForNewScale", "recommended size matches current size")
WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")

UP_DEFAULTS = HPAScalingRules(
    stabilization_window_seconds=0,
    select_policy="Max",
    policies=(
        HPAScalingPolicy(type="Pods", value=4, period_seconds=15),
        HPAScalingPolicy(type="Percent", value=100, period_seconds=15),
    ),
)
DOWN_DEFAULTS = HPAScalingRules(
    select_policy="Max", policies=(HPAScalingPolicy(type="Percent", value=100, period_seconds=15),)
)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What the metrics alone asked for at some time (s)."""

    replicas: int
    at: float


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """How many pods were added, or removed, at some time (s); never negative."""

    change: int
    at: float


@dataclass(frozen=True, slots=True)
class HpaState:
    """What an autoscaler remembers between decisions. Bounded by its windows and periods, an hour at most."""

    recommendations: tuple[Recommendation, ...] = ()
    added: tuple[ScaleEvent, ...] = ()
    removed: tuple[ScaleEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """The number now, and the smallest and greatest allowed."""

    current: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Limited:
    """The number that may be had now; `able` and `limited` are reason and message of AbleToScale and ScalingLimited."""

    replicas: int
    stabilized: int
    able: tuple[str, str]
    limited: tuple[str, str]
    state: HpaState


def with_defaults(
    behavior: HorizontalPodAutoscalerBehavior, settings: HpaSettings
) -> HorizontalPodAutoscalerBehavior:
    """The behaviour with Kubernetes' defaults for all that it leaves open."""
    down = structs.replace(
        DOWN_DEFAULTS, stabilization_window_seconds=int(settings.downscale_stabilization_s)
    )
    return structs.replace(
        behavior,
        scale_up=_merged(behavior.scale_up, UP_DEFAULTS),
        scale_down=_merged(behavior.scale_down, down),
    )


def limit(
    desired: int,
    bounds: Bounds,
    behavior: HorizontalPodAutoscalerBehavior | None,
    state: HpaState,
    settings: HpaSettings,
    now: float,
) -> Limited:
    """What of `desired`, which the metrics ask for, may be done now. The state returned knows of the recommendation."""
    if behavior is None:
        return _without_behavior(desired, bounds, state, settings, now)
    rules = with_defaults(behavior, settings)
    assert rules.scale_up is not None
    assert rules.scale_down is not None
    stabilized = _stabilized(desired, bounds.current, rules.scale_up, rules.scale_down, state, now)
    replicas, limited = _rated(stabilized, bounds, rules.scale_up, rules.scale_down, state, now)
    way = UP_STABILIZED if desired >= bounds.current else DOWN_STABILIZED
    window_s = max(_window_s(rules.scale_up), _window_s(rules.scale_down))
    return Limited(
        replicas,
        stabilized,
        READY if stabilized == desired else way,
        limited,
        _recommended(state, desired, window_s, now),
    )


def after_scaling(
    state: HpaState,
    behavior: HorizontalPodAutoscalerBehavior | None,
    settings: HpaSettings,
    change: int,
    now: float,
) -> HpaState:
    """The state once the number was changed by `change`; without behaviour nobody asks for it later."""
    if behavior is None:
        return state
    rules = with_defaults(behavior, settings)
    assert rules.scale_up is not None
    assert rules.scale_down is not None
    keep_s = max(
        policy.period_seconds for rule in (rules.scale_up, rules.scale_down) for policy in rule.policies
    )
    added = tuple(event for event in state.added if event.at > now - keep_s)
    removed = tuple(event for event in state.removed if event.at > now - keep_s)
    event = (ScaleEvent(abs(change), now),)
    return replace(
        state,
        added=added + event if change > 0 else added,
        removed=removed + event if change < 0 else removed,
    )


def _without_behavior(
    desired: int, bounds: Bounds, state: HpaState, settings: HpaSettings, now: float
) -> Limited:
    since = now - settings.downscale_stabilization_s
    recent = [seen.replicas for seen in state.recommendations if seen.at >= since]
    stabilized = max(desired, *recent) if recent else desired
    fastest = max(2 * bounds.current, 4)
    most, reason = (fastest, UP_LIMIT) if bounds.most > fastest else (bounds.most, TOO_MANY)
    replicas, limited = stabilized, WITHIN
    if stabilized < bounds.least:
        replicas, limited = bounds.least, TOO_FEW
    elif stabilized > most:
        replicas, limited = most, reason
    return Limited(
        replicas,
        stabilized,
        READY if stabilized == desired else DOWN_STABILIZED,
        limited,
        _recommended(state, desired, settings.downscale_stabilization_s, now),
    )


def _stabilized(
    desired: int, current: int, up: HPAScalingRules, down: HPAScalingRules, state: HpaState, now: float
) -> int:
    """The current number, moved only as far as every recommendation in the direction's window agrees."""
    grow_since, shrink_since = now - _window_s(up), now - _window_s(down)
    lowest = min([desired, *(seen.replicas for seen in state.recommendations if seen.at > grow_since)])
    highest = max([desired, *(seen.replicas for seen in state.recommendations if seen.at > shrink_since)])
    return min(max(current, lowest), highest)


def _rated(
    desired: int, bounds: Bounds, up: HPAScalingRules, down: HPAScalingRules, state: HpaState, now: float
) -> tuple[int, tuple[str, str]]:
    """The number kept within the rate and the bounds. A rate that is used up holds, but never moves against the wish."""
    if desired > bounds.current:
        fastest = max(bounds.current, _up_limit(bounds.current, up, state, now))
        most, reason = (fastest, UP_LIMIT) if bounds.most > fastest else (bounds.most, TOO_MANY)
        if desired > most:
            return most, reason
    elif desired < bounds.current:
        fastest = min(bounds.current, _down_limit(bounds.current, down, state, now))
        least, reason = (fastest, DOWN_LIMIT) if bounds.least < fastest else (bounds.least, TOO_FEW)
        if desired < least:
            return least, reason
    return desired, WITHIN


def _up_limit(current: int, rules: HPAScalingRules, state: HpaState, now: float) -> int:
    if rules.select_policy == "Disabled":
        return current
    proposals = []
    for policy in rules.policies:
        start = _at_start_of_period(current, policy, state, now)
        grown = start + policy.value
        if policy.type == "Percent":
            # Rounded up, or a few pods with a small share would never grow.
            grown = math.ceil(start * (1 + policy.value / 100))
        proposals.append(grown)
    return min(proposals) if rules.select_policy == "Min" else max(proposals)


def _down_limit(current: int, rules: HPAScalingRules, state: HpaState, now: float) -> int:
    if rules.select_policy == "Disabled":
        return current
    proposals = []
    for policy in rules.policies:
        start = _at_start_of_period(current, policy, state, now)
        shrunk = start - policy.value
        if policy.type == "Percent":
            shrunk = math.trunc(start * (1 - policy.value / 100))
        proposals.append(shrunk)
    return max(proposals) if rules.select_policy == "Min" else min(proposals)


def _at_start_of_period(current: int, policy: HPAScalingPolicy, state: HpaState, now: float) -> int:
    since = now - policy.period_seconds
    added = sum(event.change for event in state.added if event.at > since)
    removed = sum(event.change for event in state.removed if event.at > since)
    return current - added + removed


def _recommended(state: HpaState, desired: int, window_s: float, now: float) -> HpaState:
    kept = tuple(seen for seen in state.recommendations if seen.at >= now - window_s)
    return replace(state, recommendations=(*kept, Recommendation(desired, now)))


def _merged(given: HPAScalingRules | None, default: HPAScalingRules) -> HPAScalingRules:
    if given is None:
        return default
    window = given.stabilization_window_seconds
    return HPAScalingRules(
        stabilization_window_seconds=default.stabilization_window_seconds if window is None else window,
        select_policy=given.select_policy or default.select_policy,
        policies=given.policies or default.policies,
        tolerance=given.tolerance,
    )


def _window_s(rules: HPAScalingRules) -> int:
    return rules.stabilization_window_seconds or 0
