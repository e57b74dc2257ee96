"""Do requests that name this InferenceObjective get its priority?

They do once the service that it refers to is there. Condition `Accepted` says so, as the Gateway API Inference Extension has it
(inference.networking.x-k8s.io/v1alpha2, `status.conditions`): "True" with reason Accepted, or "False" with reason PoolNotFound.
"""

from __future__ import annotations

from penstock.decide.objectives import POOL_SUFFIX
from penstock.resources.conditions import dated
from penstock.resources.meta import Condition
from penstock.resources.objective import InferenceObjective, InferenceObjectiveStatus

ACCEPTED = "Accepted"
POOL_NOT_FOUND = "PoolNotFound"


def service_name(objective: InferenceObjective) -> str:
    """The InferenceService that it is for, in its own namespace."""
    return objective.spec.pool_ref.name.removesuffix(POOL_SUFFIX)


def objective_status(
    objective: InferenceObjective, *, has_pool: bool, now: float
) -> InferenceObjectiveStatus:
    """`has_pool`: its service exists. `now` is in seconds since the epoch."""
    name, generation = service_name(objective), objective.metadata.generation
    answer, reason = ("True", ACCEPTED) if has_pool else ("False", POOL_NOT_FOUND)
    message = (
        f"requests for InferenceService {name} that name it have priority {objective.spec.priority or 0}"
        if has_pool
        else f"spec.poolRef.name: there is no InferenceService {name} in this namespace"
    )
    accepted = Condition(
        type=ACCEPTED,
        status=answer,
        reason=reason,
        message=message,
        observed_generation=generation,
    )
    return InferenceObjectiveStatus(conditions=(dated(accepted, objective.status.conditions, now),))
