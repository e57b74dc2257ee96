"""May this service sleep, and must it wake?

Source: Knative's scaler (pkg/reconciler/autoscaling/kpa/scaler.go): the bounds of a revision, and the two parts of the way to zero: first
the revision is called inactive, then, when requests are known to be held at the gateway, its pods go.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from penstock.resources.autoscaler_settings import AutoscalerSettings

UNKNOWN = -1
"""No decision yet."""
ACTIVATION_SLACK_S = 30.0
"""What is added to the progress deadline before a start is given up."""
PROBE_AGAIN_S = 1.0
PROXY_AGAIN_S = 3.0
LEAST_ACTIVATORS = 2

Active = Literal["True", "False", "Unknown"]
Mode = Literal["Serve", "Proxy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known besides the wish. `age_s` is how long the condition Active has had its status, `proxied_s` how long requests have
    gone through the gateway's waiting room (None: they do not); `probed` says that it answers for the revision.
    """

    active: Active
    age_s: float
    reachable: bool = True
    initialized: bool = True
    replicas: int = 0
    proxied_s: float | None = None
    probed: bool = True


@dataclass(frozen=True, slots=True)
class Applied:
    """`wanted` is what is reported as desired, -1 for no news; `replicas` what the workload is set to, None leaves it."""

    wanted: int
    replicas: int | None = None
    again_s: float | None = None
    reason: str = ""


def apply_scale(settings: AutoscalerSettings, desired: int, seen: Seen) -> Applied:
    """One decision, brought within bounds."""
    if desired < 0 and seen.active != "Unknown":
        return Applied(desired, reason="nothing is decided yet")
    wanted = bounded(settings, desired, seen)
    if wanted:
        reason = f"{desired} is brought within its bounds: {wanted}" if wanted != desired else ""
        return Applied(wanted, _changed(wanted, seen), reason=reason)
    return _to_zero(settings, seen)


def bounded(settings: AutoscalerSettings, desired: int, seen: Seen) -> int:
    """Within the revision's bounds; the lower one wins. Until the first start is done, the initial scale is a lower bound too."""
    least = settings.min_scale if seen.reachable else 0
    if settings.initial_scale > 1 and not seen.initialized and seen.reachable:
        least = max(least, settings.initial_scale)
    if desired < least:
        return least
    return settings.max_scale if settings.max_scale and desired > settings.max_scale else max(desired, 0)


def _to_zero(settings: AutoscalerSettings, seen: Seen) -> Applied:
    if not settings.enable_scale_to_zero:
        return Applied(1, _changed(1, seen), reason="scale to zero is switched off for the cluster")
    if seen.active == "Unknown":
        deadline_s = settings.progress_deadline_s + ACTIVATION_SLACK_S
        if seen.age_s > deadline_s:
            return Applied(0, _changed(0, seen), reason=f"not ready within {deadline_s:g} s: given up")
        return Applied(UNKNOWN, again_s=deadline_s - seen.age_s, reason="it is still starting")
    if seen.active == "True":
        return _deactivated(settings, seen)
    return _removed(settings, seen)


def _deactivated(settings: AutoscalerSettings, seen: Seen) -> Applied:
    """The first part: nothing is taken away yet."""
    if seen.age_s < settings.stable_window_s:
        left_s = settings.stable_window_s - seen.age_s
        return Applied(1, _changed(1, seen), left_s, f"active for less than {settings.stable_window_s:g} s")
    again_s = PROXY_AGAIN_S if seen.proxied_s is not None else None
    return Applied(0, None, again_s, "no demand: it becomes inactive, its pods stay for now")


def _removed(settings: AutoscalerSettings, seen: Seen) -> Applied:
    """The second part: the pods go when the gateway holds requests, and everything that keeps them has passed."""
    if settings.target_burst_capacity != -1 and not seen.probed:
        return Applied(0, None, PROBE_AGAIN_S, "the gateway does not hold its requests yet")
    retention_s = settings.pod_retention_period_s if seen.reachable else 0.0
    grace_s = settings.grace_period_s
    if seen.age_s >= max(grace_s, retention_s):
        return Applied(0, _changed(0, seen), reason=f"inactive for {seen.age_s:.0f} s")
    if retention_s and seen.age_s < retention_s:
        left_s = retention_s - seen.age_s
        return Applied(0, None, left_s, f"its last pod is kept for {retention_s:g} s")
    if seen.proxied_s is not None and seen.proxied_s >= grace_s:
        return Applied(0, _changed(0, seen), reason=f"the gateway has held its requests for {grace_s:g} s")
    left_s = grace_s - (seen.proxied_s or 0.0)
    return Applied(0, None, left_s, f"the grace period of {grace_s:g} s is not over")


def _changed(replicas: int, seen: Seen) -> int | None:
    return replicas if replicas != seen.replicas else None


def mode_of(wanted: int, excess_burst_capacity: int, *, inactive: bool) -> Mode:
    """Serve: requests may go straight to pods. Proxy: the waiting room is part of the path."""
    asleep = wanted == 0 or (wanted == UNKNOWN and inactive)
    return "Proxy" if asleep or excess_burst_capacity < 0 else "Serve"


def activators(settings: AutoscalerSettings, ready: int) -> int:
    """How many gateways should be in the path, by their capacity: for what is ready already, and a burst beyond it."""
    burst = settings.target_burst_capacity
    if burst == 0:
        return LEAST_ACTIVATORS
    needed = (ready * settings.total + max(burst, 0.0)) / settings.activator_capacity
    return max(LEAST_ACTIVATORS, ceil(needed))
