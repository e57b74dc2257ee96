"""Ends a pod in such a way that whoever owns it knows that the platform wanted it so: it makes another, and counts no failure."""

from __future__ import annotations

import msgspec

from penstock.contracts.cluster import Cluster, Preconditions
from penstock.kit.errors import Conflict, NotFound
from penstock.kit.timestamps import rfc3339
from penstock.resources.conditions import replaced
from penstock.resources.meta import Condition
from penstock.resources.pod import Pod

DISRUPTED = "DisruptionTarget"


async def disrupt(cluster: Cluster, pod: Pod, reason: str, message: str, now: float) -> bool:
    """Say why in its status, then delete it with its own grace; False where it changed or went meanwhile, and nothing was done."""
    condition = Condition(
        type=DISRUPTED, status="True", reason=reason, message=message, last_transition_time=rfc3339(now)
    )
    conditions = replaced(pod.status.conditions, condition)
    status = msgspec.structs.replace(pod.status, conditions=conditions)
    try:
        await cluster.replace(msgspec.structs.replace(pod, status=status), subresource="status")
        only = Preconditions(uid=pod.metadata.uid)
        await cluster.delete(Pod, pod.metadata.name, pod.metadata.namespace, preconditions=only)
    except (Conflict, NotFound):
        return False
    return True
