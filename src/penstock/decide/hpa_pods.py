"""What of a pod, and of its measured numbers, does an autoscaler count with?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal

from penstock.decide.hpa_metric import Unread, ValueReadings, milli
from penstock.decide.hpa_replicas import PodState
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.meta import Quantity
from penstock.resources.pod import Container, Pod, ResourceRequirements


def pod_state(pod: Pod) -> PodState:
    """The pod as the calculation sees it."""
    status = pod.status
    ready = next((c for c in status.conditions if c.type == "Ready"), None)
    turned = ready.last_transition_time if ready else None
    return PodState(
        name=pod.metadata.name,
        phase=status.phase or "Pending",
        deleted=pod.metadata.deletion_timestamp is not None,
        ready=None if ready is None else ready.status == "True",
        ready_changed_at=parse_rfc3339(turned) if turned else 0.0,
        started_at=parse_rfc3339(status.start_time) if status.start_time else None,
        requests_milli={c.name: _requests(c.resources) for c in lasting_containers(pod)},
        pod_requests_milli=_whole(pod),
    )


def lasting_containers(pod: Pod) -> tuple[Container, ...]:
    """Containers that run as long as the pod does: its own, and restartable init containers."""
    sidecars = tuple(c for c in pod.spec.init_containers if c.restart_policy == "Always")
    return pod.spec.containers + sidecars


def values(measured: Iterable[float]) -> ValueReadings | Unread:
    """Numbers as they were measured, in thousandths; what no measurement can be is refused."""
    found = []
    for value in measured:
        if (amount := thousandths(value)) is None:
            return Unread(refusal(value))
        found.append(amount)
    return ValueReadings(tuple(found)) if found else Unread("no metrics returned")


def thousandths(value: float) -> int | None:
    """Rounded up as Kubernetes does; None for NaN, for infinity and below 0."""
    if not math.isfinite(value) or value < 0:
        return None
    return int((Decimal(repr(value)) * 1000).to_integral_value(ROUND_CEILING))


def refusal(value: float) -> str:
    """Why the value is not counted with."""
    return f"found {value:g}, expected a finite value of 0 or more"


def _requests(resources: ResourceRequirements | None) -> dict[str, int]:
    """A limit without a request is a request, too."""
    given: Mapping[str, Quantity] = {**resources.limits, **resources.requests} if resources else {}
    return {name: milli(amount) for name, amount in given.items()}


def _whole(pod: Pod) -> dict[str, int]:
    """What the pod reserves as a whole; where it says so for one resource, others are the sums of its containers."""
    own = _requests(pod.spec.resources)
    if not own:
        return {}
    sums: dict[str, int] = {}
    for container in lasting_containers(pod):
        for name, amount in _requests(container.resources).items():
            sums[name] = sums.get(name, 0) + amount
    return {**sums, **own}
