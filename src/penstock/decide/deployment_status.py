"""What state is this Deployment in: how many pods of which kind, is it available, does its rollout get on?

Conditions, reasons and messages are Kubernetes' (apps/v1), so that `kubectl rollout status` and `kubectl wait` understand them.
"""

from __future__ import annotations

from msgspec import structs

from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.meta import Condition
from penstock.resources.workload import Deployment, DeploymentStatus, ReplicaSet

DEFAULT_PROGRESS_DEADLINE_S = 600


def deployment_status(
    deployment: Deployment,
    new: ReplicaSet | None,
    replica_sets: tuple[ReplicaSet, ...],
    *,
    wished: int,
    least: int,
    moves: bool,
    now: float,
) -> tuple[DeploymentStatus, float | None]:
    """The status, and the seconds until a deadline changes it.

    `least` pods make it available; `moves` says that this step changes the size of a ReplicaSet.
    """
    before = deployment.status
    counted = DeploymentStatus(
        observed_generation=deployment.metadata.generation,
        replicas=sum(rs.status.replicas for rs in replica_sets),
        updated_replicas=new.status.replicas if new else 0,
        ready_replicas=sum(rs.status.ready_replicas for rs in replica_sets),
        available_replicas=sum(rs.status.available_replicas for rs in replica_sets),
        unavailable_replicas=max(0, wished - sum(rs.status.available_replicas for rs in replica_sets)),
        terminating_replicas=sum(rs.status.terminating_replicas or 0 for rs in replica_sets),
        collision_count=before.collision_count,
    )
    progressing, again_s = _progressing(deployment, counted, new, moves, wished, now)
    found = [_available(counted, least), progressing, *_failures(new)]
    conditions = tuple(_stamped(condition, before.conditions, now) for condition in found)
    return structs.replace(counted, conditions=conditions), again_s


def _available(counted: DeploymentStatus, least: int) -> Condition:
    enough = counted.available_replicas >= least
    return Condition(
        type="Available",
        status="True" if enough else "False",
        reason="MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        message=f"Deployment {'has' if enough else 'does not have'} minimum availability.",
    )


def _failures(new: ReplicaSet | None) -> list[Condition]:
    """Why pods of the current template cannot be made."""
    conditions = new.status.conditions if new else ()
    return [c for c in conditions if c.type == "ReplicaFailure" and c.status == "True"]


def _progressing(
    deployment: Deployment,
    counted: DeploymentStatus,
    new: ReplicaSet | None,
    moves: bool,
    wished: int,
    now: float,
) -> tuple[Condition, float | None]:
    what = f'ReplicaSet "{new.metadata.name}"' if new else f'Deployment "{deployment.metadata.name}"'
    known = next((c for c in deployment.status.conditions if c.type == "Progressing"), None)
    if deployment.spec.paused:
        return _condition("Unknown", "DeploymentPaused", "Deployment is paused"), None
    if counted.updated_replicas == counted.replicas == counted.available_replicas == wished and not moves:
        return _condition("True", "NewReplicaSetAvailable", f"{what} has successfully progressed."), None
    limit_s = deployment.spec.progress_deadline_seconds or DEFAULT_PROGRESS_DEADLINE_S
    if known is None or moves or _got_on(deployment, counted, known):
        since = now
    else:
        since = parse_rfc3339(known.last_update_time or rfc3339(now))
    if now - since > limit_s:
        late = _condition("False", "ProgressDeadlineExceeded", f"{what} has timed out progressing.")
        return structs.replace(late, last_update_time=rfc3339(since)), None
    going = _condition("True", "ReplicaSetUpdated", f"{what} is progressing.")
    return structs.replace(going, last_update_time=rfc3339(since)), since + limit_s - now + 1


def _got_on(deployment: Deployment, counted: DeploymentStatus, known: Condition) -> bool:
    """Whether this is the first look at a new wish, or pods of the current template came or became ready since the last."""
    before = deployment.status
    return (
        before.observed_generation != deployment.metadata.generation
        or known.reason in ("NewReplicaSetAvailable", "DeploymentPaused")
        or counted.updated_replicas > before.updated_replicas
        or counted.ready_replicas > before.ready_replicas
        or counted.available_replicas > before.available_replicas
        or counted.replicas - counted.updated_replicas < before.replicas - before.updated_replicas
    )


def _condition(status: str, reason: str, message: str) -> Condition:
    return Condition(type="Progressing", status=status, reason=reason, message=message)


def _stamped(condition: Condition, before: tuple[Condition, ...], now: float) -> Condition:
    """The condition with its times: transition when the status changed, update when anything did."""
    known = next((c for c in before if c.type == condition.type), None)
    same = known is not None and (known.status, known.reason, known.message) == (
        condition.status,
        condition.reason,
        condition.message,
    )
    updated = condition.last_update_time or (known.last_update_time if known and same else rfc3339(now))
    turned = known.last_transition_time if known and known.status == condition.status else rfc3339(now)
    return structs.replace(condition, last_update_time=updated, last_transition_time=turned)
