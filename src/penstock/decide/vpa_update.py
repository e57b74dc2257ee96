"""Which pods are evicted, so that they come back with the size that is recommended?

VPA's updater: its priorities and its eviction restriction. Source: kubernetes/autoscaler.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.decide.vpa import amount
from penstock.decide.vpa_apply import recommendations, request_of, wanted_requests, within_limit
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.pod import Container, ContainerStatus, Pod
from penstock.resources.vpa import (
    TARGET_HIGHER,
    EvictionRequirement,
    RecommendedContainerResources,
    VerticalPodAutoscaler,
)

MIN_REPLICAS = 2
MIN_CHANGE = 0.1
MIN_AGE_S = 12 * 3600.0
QUICK_OOM_S = 600
TOLERATED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Evictions:
    """Pods to evict, the most urgent first, `why` each of them, and what was considered of all."""

    pods: tuple[Pod, ...] = ()
    why: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Need:
    """How urgently a pod needs another size."""

    pod: Pod
    grows: bool
    change: float
    reason: str


def plan_evictions(
    autoscaler: VerticalPodAutoscaler,
    pods: tuple[Pod, ...],
    replicas: int,
    now: float,
    refused: frozenset[str] = frozenset(),
) -> Evictions:
    """`pods` are all pods of the target, `replicas` is how many it should have; resources in `refused` do not count."""
    live = tuple(p for p in pods if p.metadata.deletion_timestamp is None and p.status.phase != "Failed")
    policy = autoscaler.spec.update_policy
    least = (policy.min_replicas if policy else None) or MIN_REPLICAS
    if len(live) < least:
        return Evictions(reasons=(f"evicts nothing: {len(live)} replicas, and at least {least} are needed",))
    judged = [_judge(autoscaler, pod, now, refused) for pod in live]
    needs = sorted(
        (need for need in judged if isinstance(need, _Need)),
        key=lambda need: (not need.grows, -need.change, need.pod.metadata.name),
    )
    reasons = [verdict for verdict in judged if isinstance(verdict, str)]
    chosen: list[_Need] = []
    running = [pod for pod in live if pod.status.phase == "Running"]
    ready = sum(map(_is_ready, running))
    gone = gone_ready = 0
    for need in needs:
        name, is_ready = need.pod.metadata.name, _is_ready(need.pod)
        if need.pod.status.phase == "Running":
            half_runs = _may_go(replicas, len(running), gone)
            if not half_runs or (is_ready and not _may_go(replicas, ready, gone_ready)):
                reasons.append(f"{name} must wait: half of {replicas} replicas stay")
                continue
            gone, gone_ready = gone + 1, gone_ready + is_ready
        chosen.append(need)
        reasons.append(f"evicts {name}: {need.reason}")
    return Evictions(
        tuple(need.pod for need in chosen), tuple(need.reason for need in chosen), tuple(reasons)
    )


def _may_go(replicas: int, there: int, gone: int) -> bool:
    """At most half at a time; a single replica, where the policy allows that at all, may go when it is there."""
    tolerated = int(replicas * TOLERATED_SHARE)
    if there - gone > replicas - tolerated:
        return True
    return there == replicas and tolerated == 0 and gone == 0


def _judge(autoscaler: VerticalPodAutoscaler, pod: Pod, now: float, refused: frozenset[str]) -> _Need | str:
    """Why this pod needs another size, or why it stays."""
    name = pod.metadata.name
    recommended = recommendations(autoscaler)
    sizes = [(c, recommended[c.name]) for c in pod.spec.containers if c.name in recommended]
    grows, outside = False, ""
    totals: dict[str, tuple[int, int]] = {}
    for container, size in sizes:
        for resource, value in wanted_requests(autoscaler, container, size, refused).items():
            target, given = amount(resource, value), request_of(container, resource)
            request = 0 if given is None else amount(resource, given)
            grows = grows or target > request
            outside = outside or _outside(autoscaler, container, size, resource, request, given is not None)
            before, after = totals.get(resource, (0, 0))
            totals[resource] = (before + request, after + target)
    change = sum(abs(after - before) / max(before, 1) for before, after in totals.values())
    quick = _quick_oom(autoscaler, pod, {container.name for container, _ in sizes})
    if not change:
        return f"{name} stays: it has the recommended size"
    if not outside and not quick:
        if pod.status.start_time is None:
            return f"{name} stays: it has not started"
        if now - parse_rfc3339(pod.status.start_time) < MIN_AGE_S:
            return f"{name} stays: within its bounds and younger than {MIN_AGE_S / 3600:.0f} h"
        if change < MIN_CHANGE:
            return f"{name} stays: within its bounds and the change of {change:.1%} is below {MIN_CHANGE:.0%}"
    if not _meets_requirements(autoscaler, pod, refused):
        return f"{name} stays: its changes do not meet the policy's eviction requirements"
    reason = outside or (f"{quick} ran out of memory soon after its start" if quick else "")
    return _Need(pod, grows, change, reason or f"a change of {change:.1%} after {MIN_AGE_S / 3600:.0f} h")


def _outside(
    autoscaler: VerticalPodAutoscaler,
    container: Container,
    size: RecommendedContainerResources,
    resource: str,
    request: int,
    is_given: bool,
) -> str:
    """How a request lies outside its bounds, or nothing."""
    if not is_given:
        return f"{container.name} requests no {resource}"
    for bound, side in ((size.lower_bound, "below"), (size.upper_bound, "above")):
        if resource not in bound:
            continue
        edge = amount(resource, within_limit(autoscaler, container, resource, bound[resource]))
        if request < edge if side == "below" else request > edge:
            return f"{container.name}'s request of {resource} is {side} its bound of {bound[resource]}"
    return ""


def _quick_oom(autoscaler: VerticalPodAutoscaler, pod: Pod, names: set[str]) -> str:
    """The container that ran out of memory soon after it started, if one did."""
    policy = autoscaler.spec.update_policy
    within_s = (policy.evict_after_oom_seconds if policy else None) or QUICK_OOM_S
    statuses = (s for s in pod.status.container_statuses if s.name in names)
    return next((s.name for s in statuses if _died_of_memory_within(s, within_s)), "")


def _died_of_memory_within(status: ContainerStatus, within_s: int) -> bool:
    ended = status.state.terminated or status.last_state.terminated
    if ended is None or ended.reason != "OOMKilled" or not ended.started_at or not ended.finished_at:
        return False
    return parse_rfc3339(ended.finished_at) - parse_rfc3339(ended.started_at) < within_s


def _meets_requirements(autoscaler: VerticalPodAutoscaler, pod: Pod, refused: frozenset[str]) -> bool:
    """Whether for some container every requirement holds for one of its resources."""
    policy = autoscaler.spec.update_policy
    if policy is None or not policy.eviction_requirements:
        return True
    recommended = recommendations(autoscaler)
    for container in pod.spec.containers:
        target = wanted_requests(autoscaler, container, recommended.get(container.name), refused)
        changes = {
            resource: amount(resource, value) - amount(resource, request_of(container, resource) or 0)
            for resource, value in target.items()
        }
        if changes and all(_holds(requirement, changes) for requirement in policy.eviction_requirements):
            return True
    return False


def _holds(requirement: EvictionRequirement, changes: dict[str, int]) -> bool:
    found = [changes[resource] for resource in requirement.resources if resource in changes]
    higher = requirement.change_requirement == TARGET_HIGHER
    return any(change > 0 if higher else change < 0 for change in found)


def _is_ready(pod: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)
