"""What do we tell the user about this PodAutoscaler?

Source: Knative's PodAutoscaler reconciler (computeActiveCondition): which wish and which pods make it active, activating or inactive.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from penstock.decide.scale_to_zero import Active
from penstock.resources.autoscaler_settings import AutoscalerSettings
from penstock.resources.conditions import dated
from penstock.resources.meta import Condition
from penstock.resources.pod_autoscaler import INITIALIZED

Activity = Literal["active", "activating", "inactive"]
STATUS: Mapping[Activity, Active] = MappingProxyType(
    {"active": "True", "activating": "Unknown", "inactive": "False"}
)
"""Of the condition Active."""
QUEUED = "Requests to the target are being buffered as resources are provisioned."
NO_TRAFFIC = "The target is not receiving traffic."
TIMED_OUT = "The target could not be activated."


def threshold(settings: AutoscalerSettings, *, initialized: bool, reachable: bool = True) -> int:
    """How many pods must be ready for the revision to be active; one that nobody can reach has no lower bound."""
    least = settings.min_scale if reachable else 0
    return max(least, 1 if initialized else settings.initial_scale)


def activity(wanted: int, ready: int, least: int, was: Activity) -> tuple[Activity, str]:
    """What it becomes, and the reason of its condition, "" where there is none or it stays; `wanted` is -1 while nothing is decided."""
    if wanted == 0:
        timed_out = least > 0 and was == "activating"
        return "inactive", "TimedOut" if timed_out else "NoTraffic"
    if least == 0:
        return "inactive", "NoTraffic"
    if wanted < 0 and was == "inactive":
        return "inactive", ""
    return ("active", "") if ready >= least else ("activating", "Queued")


def was(conditions: tuple[Condition, ...]) -> Activity:
    """What the condition Active said last; a new one is activating."""
    known = next((c for c in conditions if c.type == "Active"), None)
    if known is None or known.status == "Unknown":
        return "activating"
    return "active" if known.status == "True" else "inactive"


def conditions_of(
    before: tuple[Condition, ...],
    now_is: tuple[Activity, str],
    *,
    ready: int,
    least: int,
    refusal: str,
    now: float,
) -> tuple[Condition, ...]:
    """All conditions; `refusal` says why fewer pods are asked for than are wanted, "" where they are not."""
    state, reason = now_is
    if state == "inactive" and not reason:
        reason = next((c.reason for c in before if c.type == "Active" and c.reason), "NoTraffic")
    active = Condition(
        type="Active",
        status=STATUS[state],
        reason=reason,
        message={"Queued": QUEUED, "NoTraffic": NO_TRAFFIC, "TimedOut": TIMED_OUT}.get(reason, ""),
    )
    initialized = ready >= least or any(c.type == INITIALIZED and c.status == "True" for c in before)
    target = Condition(type=INITIALIZED, status="True" if initialized else "Unknown")
    room = Condition(
        type="Schedulable",
        status="False" if refusal else "True",
        reason="InsufficientRoom" if refusal else "",
        message=refusal,
    )
    worst = active if active.status != "True" else target
    whole = Condition(type="Ready", status=worst.status, reason=worst.reason, message=worst.message)
    return tuple(dated(each, before, now) for each in (active, whole, target, room))
