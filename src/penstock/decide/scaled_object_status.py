"""What do we tell the user about this ScaledObject?

Its status in KEDA's words, from what a round decided; fields that a round says nothing about stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from penstock.decide.scaled_object import Round
from penstock.decide.scaled_object_hpa import resource_metric_names
from penstock.decide.scaled_object_metrics import COMPOSITE, Metric, Observed, health_of
from penstock.kit.timestamps import rfc3339
from penstock.resources.keda import ScaledObject, ScaledObjectStatus, TargetKind, TriggerActivity
from penstock.resources.meta import Condition
from penstock.resources.validate_scaled_object import hpa_name

ORDER = ("Ready", "Active", "Fallback", "Paused")


def plan_status(
    scaled: ScaledObject,
    decided: Round,
    observed: tuple[Observed, ...],
    metrics: tuple[Metric, ...],
    replicas: int,
) -> ScaledObjectStatus:
    """After a round; `replicas` are those of the target before it."""
    before, spec = scaled.status, scaled.spec
    kind = spec.scale_target_ref.kind or "Deployment"
    composite = COMPOSITE if spec.formula else ""
    status = structs.replace(
        before,
        scale_target_kind=f"apps/v1.{kind}",
        scale_target_gvkr=TargetKind(group="apps", version="v1", kind=kind, resource=f"{kind.lower()}s"),
        original_replica_count=(
            replicas if before.original_replica_count is None else before.original_replica_count
        ),
        last_active_time=None if decided.last_active_at is None else rfc3339(decided.last_active_at),
        conditions=_merged(before.conditions, decided.conditions),
        paused_replica_count=decided.paused_at,
        hpa_name=hpa_name(scaled.metadata.name, spec) if decided.autoscaled else "",
        composite_scaler_name=composite,
        resource_metric_names=resource_metric_names(scaled),
        triggers_types=",".join(dict.fromkeys(trigger.type for trigger in spec.triggers)),
        authentications_types=",".join(
            dict.fromkeys(t.authentication_ref.name for t in spec.triggers if t.authentication_ref)
        ),
    )
    if not observed:
        return status
    return structs.replace(
        status,
        external_metric_names=tuple(metric.metric for metric in metrics),
        health=health_of(observed),
        triggers_activity={one.metric.metric: TriggerActivity(is_active=_active(one)) for one in observed},
    )


def refused_status(scaled: ScaledObject, reason: str, message: str) -> ScaledObjectStatus:
    """While it cannot be acted upon."""
    refused = (
        Condition(type="Ready", status="False", reason=reason, message=message),
        Condition(
            type="Active",
            status="Unknown",
            reason="ScaledObjectNotReady",
            message="Scaling is not performed because the ScaledObject is not ready",
        ),
    )
    absent = tuple(
        Condition(type=name, status="False")
        for name in ORDER[2:]
        if all(known.type != name for known in scaled.status.conditions)
    )
    return structs.replace(scaled.status, conditions=_merged(scaled.status.conditions, (*refused, *absent)))


def _active(one: Observed) -> bool:
    return one.reading is not None and one.reading.active


def _merged(before: Iterable[Condition], after: Iterable[Condition]) -> tuple[Condition, ...]:
    """In KEDA's order."""
    known = {condition.type: condition for condition in (*before, *after)}
    return tuple(known[name] for name in ORDER if name in known)
