"""How many replicas do KEDA's triggers ask for now?

KEDA's own loop, which is asked every `pollingInterval`: it wakes a target from 0 (or idle) when any trigger is active, and puts it
to sleep when none was for `cooldownPeriod`. Between one and many the autoscaler decides (`scaled_object_hpa.py`). What cannot be
read changes nothing: only a trigger that answers may wake, and only if all answer may the target be put to sleep.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.decide.scaled_object_hpa import is_set
from penstock.decide.scaled_object_metrics import Observed, Served
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources import keda
from penstock.resources.keda import RESOURCE_TRIGGERS, ScaledObject
from penstock.resources.meta import Condition

READY = ("ScaledObjectReady", "ScaledObject is defined correctly and is ready for scaling")
ACTIVE = ("ScalerActive", "Scaling is performed because triggers are active")
FORCED = ("ScalerActive", "Scaling is performed because activation is being forced by annotation")
NOT_ACTIVE = ("ScalerNotActive", "Scaling is not performed because triggers are not active")
COOLING = ("ScalerCooldown", "Scaler cooling down because triggers are not active")
PAUSED = ("ScaledObjectPaused", "ScaledObject is paused")
UNPAUSED = ("ScaledObjectUnpaused", "pause annotation removed for ScaledObject")
ALL_FAIL = ("TriggerError", "Triggers defined in ScaledObject are not working correctly")
SOME_FAIL = ("PartialTriggerError", "Some triggers defined in ScaledObject are not working correctly")
FALLING_BACK = ("FallbackExists", "At least one trigger is falling back on this scaled object")
NO_FALLBACK = ("NoFallbackFound", "No fallbacks are active on this scaled object")


@dataclass(frozen=True, slots=True)
class Poll:
    """All that one round looks at. `observed` are the triggers that the autoscaler does not read itself.

    `composite` is the formula's value where there is one; `replicas` what the target's spec asks for now.
    """

    scaled: ScaledObject
    replicas: int
    observed: tuple[Observed, ...] = ()
    composite: Served | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What to do: write `replicas` to the target unless None, keep the autoscaler if `autoscaled`, tell the conditions and `event`.

    `last_active_at` is when a trigger was last active (Unix seconds), None if never; `paused_at` the size at which it is paused.
    `event` is reason and message.
    """

    replicas: int | None
    active: bool
    autoscaled: bool
    conditions: tuple[Condition, ...]
    last_active_at: float | None = None
    paused_at: int | None = None
    event: tuple[str, str] | None = None
    reasons: tuple[str, ...] = ()
    runner_up: str = ""


def is_paused(scaled: ScaledObject) -> bool:
    """Whether an annotation stops everything."""
    return keda.PAUSED_REPLICAS in scaled.metadata.annotations or is_set(scaled, keda.PAUSED)


def poll(given: Poll, now: float) -> Round:
    """One round."""
    if is_paused(given.scaled):
        return _paused(given)
    failed = tuple(one for one in given.observed if one.reading is None)
    callers = _callers(given)
    forced = is_set(given.scaled, keda.FORCE_ACTIVATION)
    conditions = (_ready(given, failed), _fallback(given), _condition("Paused", "False", UNPAUSED))
    before = _last_active(given.scaled, now)
    if callers or forced:
        return _awake(given, callers, forced, conditions, now)
    return _asleep(given, failed, conditions, before, now)


def _awake(
    given: Poll, callers: tuple[str, ...], forced: bool, conditions: tuple[Condition, ...], now: float
) -> Round:
    scaled, spec, current = given.scaled, given.scaled.spec, given.replicas
    why = "activation is forced" if forced else f"active: {', '.join(callers)}"
    active = _condition("Active", "True", FORCED if forced else ACTIVE)
    wake = current == 0 or (spec.idle_replica_count is not None and current < spec.min_replicas)
    wanted = max(1, spec.min_replicas)
    held = wake and is_set(scaled, keda.PAUSED_SCALE_OUT)
    if not wake or held:
        reason = f"stay at {current}: {keda.PAUSED_SCALE_OUT}" if held else "the autoscaler decides"
        return Round(
            None, True, not held, (active, *conditions), now,
            reasons=(why, reason), runner_up=f"wake to {wanted}" if held else "",
        )  # fmt: skip
    by = "caused by forced activation annotation" if forced else f"triggered by {';'.join(callers)}"
    return Round(
        wanted, True, True, (active, *conditions), now,
        event=("KEDAScaleTargetActivated", f"Scaled {_named(scaled)} from {current} to {wanted}, {by}"),
        reasons=(why, f"{current} replicas are too few for work that waits"),
        runner_up=f"stay at {current}",
    )  # fmt: skip


def _asleep(
    given: Poll,
    failed: tuple[Observed, ...],
    conditions: tuple[Condition, ...],
    before: float | None,
    now: float,
) -> Round:
    scaled, spec, current = given.scaled, given.scaled.spec, given.replicas
    idle, least = spec.idle_replica_count, spec.min_replicas
    lowest = least if idle is None else idle
    autoscaled = idle is None or idle == 0 or current > idle
    inactive = _condition("Active", "False", NOT_ACTIVE)
    unknown = _unknown(given, failed)
    if unknown and not _gives_up(given, failed):
        reasons = (f"keep {current}, since not everything can be read", unknown)
        runner_up = f"go to {lowest}" if current > lowest else ""
        return Round(
            None, False, autoscaled, (inactive, *conditions), before, reasons=reasons, runner_up=runner_up
        )
    if (idle is not None and current > idle) or (current > 0 and least == 0):
        return _cool_down(given, lowest, conditions, before, now)
    if idle is None and current < least and not is_set(scaled, keda.PAUSED_SCALE_OUT):
        reasons = ("no trigger is active", f"{current} replicas are fewer than minReplicaCount {least}")
        return Round(
            least,
            False,
            True,
            (inactive, *conditions),
            before,
            reasons=reasons,
            runner_up=f"stay at {current}",
        )
    reasons = ("no trigger is active", f"{current} replicas are as few as may be")
    return Round(None, False, autoscaled, (inactive, *conditions), before, reasons=reasons)


def _cool_down(
    given: Poll, lowest: int, conditions: tuple[Condition, ...], before: float | None, now: float
) -> Round:
    """Down to `lowest`, once nothing was active for long enough."""
    scaled, current = given.scaled, given.replicas
    inactive = _condition("Active", "False", NOT_ACTIVE)
    if is_set(scaled, keda.PAUSED_SCALE_IN):
        reasons = ("no trigger is active", f"stay at {current}: {keda.PAUSED_SCALE_IN}")
        return Round(
            None, False, True, (inactive, *conditions), before, reasons=reasons, runner_up=f"go to {lowest}"
        )
    until = _cool_until(scaled, before)
    if not until < now:
        cooling = _condition("Active", "False", COOLING)
        reasons = ("no trigger is active", f"cooling down for {until - now:.0f} s more")
        return Round(
            None, False, True, (cooling, *conditions), before, reasons=reasons, runner_up=f"go to {lowest}"
        )
    return Round(
        lowest, False, lowest == 0, (inactive, *conditions), before,
        event=("KEDAScaleTargetDeactivated", f"Deactivated {_named(scaled)} from {current} to {lowest}"),
        reasons=("no trigger is active", "the cooldown is over"),
        runner_up=f"stay at {current}",
    )  # fmt: skip


def _cool_until(scaled: ScaledObject, last_active_at: float | None) -> float:
    """Unix time up to which an inactive target stays."""
    spec = scaled.spec
    if last_active_at is None:
        return _created(scaled) + (spec.initial_cooldown_period or 0)
    cooldown = keda.COOLDOWN_PERIOD_S if spec.cooldown_period is None else spec.cooldown_period
    return last_active_at + cooldown


def _last_active(scaled: ScaledObject, now: float) -> float | None:
    """When a trigger was last active; not later than now, since a clock that went back would keep the target up for long."""
    moment = scaled.status.last_active_time
    return min(parse_rfc3339(moment), now) if moment else None


def _created(scaled: ScaledObject) -> float:
    created = scaled.metadata.creation_timestamp
    return parse_rfc3339(created) if created else 0.0


def _paused(given: Poll) -> Round:
    """Nothing but the size that an annotation names, once."""
    scaled = given.scaled
    text = scaled.metadata.annotations.get(keda.PAUSED_REPLICAS)
    at = int(text) if text is not None else None
    move = at is not None and at not in (scaled.status.paused_replica_count, given.replicas)
    conditions = (
        _condition("Paused", "True", PAUSED),
        _condition("Ready", "True", READY),
        _condition("Active", "False", PAUSED),
        _condition("Fallback", "False", NO_FALLBACK),
    )
    moment = scaled.status.last_active_time
    last = parse_rfc3339(moment) if moment else None
    reasons = (
        "paused by annotation",
        f"at {at} replicas" if at is not None else f"as it is, at {given.replicas}",
    )
    return Round(at if move else None, False, False, conditions, last, at, reasons=reasons)


def _callers(given: Poll) -> tuple[str, ...]:
    """What is active. A formula speaks for all its triggers; cpu and memory alone cannot tell, and never let the target sleep."""
    spec = given.scaled.spec
    modifiers = spec.advanced.scaling_modifiers if spec.advanced else None
    if given.composite is not None and modifiers is not None:
        value, threshold = given.composite.value, float(modifiers.activation_target or 0)
        alive = value is not None and not given.composite.fallback and value > threshold
        return ("scalingModifiers",) if alive else ()
    if all(trigger.type in RESOURCE_TRIGGERS for trigger in spec.triggers):
        return tuple(dict.fromkeys(trigger.type for trigger in spec.triggers))
    return tuple(
        one.metric.metric for one in given.observed if one.reading is not None and one.reading.active
    )


def _gives_up(given: Poll, failed: tuple[Observed, ...]) -> bool:
    """Whether the fallback says that what cannot be read for long calls for nobody."""
    fallback = given.scaled.spec.fallback
    return (
        fallback is not None
        and fallback.replicas == 0
        and fallback.behavior in ("", keda.STATIC)
        and bool(failed)
        and all(one.failures > fallback.failure_threshold for one in failed)
    )


def _ready(given: Poll, failed: tuple[Observed, ...]) -> Condition:
    unknown = _unknown(given, failed)
    if not unknown:
        return _condition("Ready", "True", READY)
    everything = len(failed) in (0, len(given.observed))
    reason, message = ALL_FAIL if everything else SOME_FAIL
    return _condition("Ready", "False" if everything else "Unknown", (reason, f"{message}: {unknown}"))


def _unknown(given: Poll, failed: tuple[Observed, ...]) -> str:
    """What cannot be read or computed, or ""."""
    if not failed and given.composite is not None and given.composite.value is None:
        return given.composite.reason
    return "; ".join(f"{one.metric.metric}: {one.error}" for one in failed)


def _fallback(given: Poll) -> Condition:
    fallback = given.scaled.spec.fallback
    used = fallback is not None and any(
        one.reading is None and one.failures > fallback.failure_threshold for one in given.observed
    )
    return (
        _condition("Fallback", "True", FALLING_BACK) if used else _condition("Fallback", "False", NO_FALLBACK)
    )


def _condition(type_: str, status: str, said: tuple[str, str]) -> Condition:
    return Condition(type=type_, status=status, reason=said[0], message=said[1])


def _named(scaled: ScaledObject) -> str:
    """The target as KEDA's events name it: `apps/v1.Deployment default/web`."""
    target = scaled.spec.scale_target_ref
    kind = f"{target.api_version or 'apps/v1'}.{target.kind or 'Deployment'}"
    return f"{kind} {scaled.metadata.namespace}/{target.name}"
