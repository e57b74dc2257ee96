"""How many pods would one metric have?

The replica calculation of Kubernetes' autoscaling/v2. Amounts are in thousandths (`…_milli`): of a core, a byte, or whatever the
metric counts. An error is an answer here (`Problem`), in Kubernetes' words, because a metric that cannot be used is expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MAX_REPLICAS = 2**31 - 1
CPU = "cpu"
NO_PODS = "no pods returned by selector while calculating replica count"
NO_SAMPLES = "did not receive metrics for targeted pods (pods might be unready)"


@dataclass(frozen=True, slots=True)
class PodState:
    """What matters of a pod. Times are in seconds since the epoch; `ready` is None while the pod has no such condition.

    `requests_milli` is by container, then by resource; sidecars (restartable init containers) count as containers.
    `pod_requests_milli` is by resource, for a pod that reserves as a whole.
    """

    name: str
    phase: str = "Running"
    deleted: bool = False
    ready: bool | None = True
    ready_changed_at: float = 0.0
    started_at: float | None = 0.0
    requests_milli: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    pod_requests_milli: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodSample:
    """One pod's amount as measured at `at` over the `window_s` seconds before."""

    value_milli: int
    at: float = math.inf
    window_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far usage may be from its target, as a share, before anything changes."""

    up: float = 0.1
    down: float = 0.1

    def hold(self, ratio: float) -> bool:
        """Whether a ratio of usage to target is near enough to 1."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class HpaSettings:
    """The flags of Kubernetes' controller, with its defaults. Seconds."""

    tolerance: float = 0.1
    downscale_stabilization_s: float = 300.0
    cpu_initialization_s: float = 300.0
    initial_readiness_delay_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Pods:
    """The target's pods as one metric sees them: `resource` is "" for metrics that are no resource."""

    pods: tuple[PodState, ...]
    samples: Mapping[str, PodSample]
    resource: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True)
class Groups:
    """How many pods count as ready, and the names of those that do not, by reason."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


@dataclass(frozen=True, slots=True)
class Counted:
    """The number wanted, and the metric as measured: a mean per pod unless it was asked for as a whole."""

    replicas: int
    usage_milli: int
    utilization: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why no number can be had."""

    message: str


def group(seen: Pods, settings: HpaSettings, now: float) -> Groups:
    """Only for CPU does it matter how long a pod has been ready: a start's load says nothing about what serving takes."""
    unready, missing, ignored = set(), set(), set()
    ready = 0
    for pod in seen.pods:
        sample = seen.samples.get(pod.name)
        if pod.deleted or pod.phase == "Failed":
            ignored.add(pod.name)
        elif pod.phase == "Pending":
            unready.add(pod.name)
        elif sample is None:
            missing.add(pod.name)
        elif seen.resource == CPU and _starts(pod, sample, settings, now):
            unready.add(pod.name)
        else:
            ready += 1
    return Groups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def by_utilization(
    seen: Pods, target_percent: int, current: int, tolerances: Tolerances, settings: HpaSettings, now: float
) -> Counted | Problem:
    """Usage as a share of the pods' requests, in whole percent: 16.66 % is 16 %."""
    if not seen.pods:
        return Problem(NO_PODS)
    groups = group(seen, settings, now)
    usage = _usage(seen, groups)
    if not usage:
        return Problem(NO_SAMPLES)
    requests: dict[str, int] = {}
    for pod in seen.pods:
        request = _request(pod, seen)
        if isinstance(request, Problem):
            return request
        requests[pod.name] = request
    if sum(requests[name] for name in usage if name in requests) == 0:
        return Problem("no metrics returned matched known pods")

    def percent(amounts: Mapping[str, int]) -> int:
        known = [name for name in amounts if name in requests]
        return 100 * sum(amounts[name] for name in known) // sum(requests[name] for name in known)

    full = max(100, target_percent)
    replicas = _replicas(
        usage,
        groups,
        current,
        tolerances,
        ratio=lambda amounts: percent(amounts) / target_percent,
        fill=lambda name: requests[name] * full // 100,
    )
    measured = [amount for name, amount in usage.items() if name in requests]
    return Counted(replicas, sum(measured) // len(measured), percent(usage))


def by_average(
    seen: Pods, target_milli: int, current: int, tolerances: Tolerances, settings: HpaSettings, now: float
) -> Counted | Problem:
    """Usage per pod against an amount: for resources with `averageValue`, and for metrics of pods."""
    if not seen.pods:
        return Problem(NO_PODS)
    groups = group(seen, settings, now)
    usage = _usage(seen, groups)
    if not usage:
        return Problem(NO_SAMPLES)
    replicas = _replicas(
        usage,
        groups,
        current,
        tolerances,
        ratio=lambda amounts: _mean(amounts) / target_milli,
        fill=lambda name: target_milli,
    )
    return Counted(replicas, _mean(usage))


def by_value(
    usage_milli: int, target_milli: int, current: int, pods: tuple[PodState, ...], tolerances: Tolerances
) -> Counted | Problem:
    """One value of an object or of something outside, against a target for all pods together."""
    ratio = usage_milli / target_milli
    if current == 0:
        return Counted(_ceil(ratio), usage_milli)
    if tolerances.hold(ratio):
        return Counted(current, usage_milli)
    if not pods:
        return Problem(f"unable to calculate ready pods: {NO_PODS}")
    ready = sum(pod.phase == "Running" and pod.ready is True for pod in pods)
    return Counted(_ceil(ratio * ready), usage_milli)


def by_average_value(
    usage_milli: int, target_milli: int, status_replicas: int, tolerances: Tolerances
) -> Counted:
    """One value of an object or of something outside, against a target per pod. Of no pods, the whole is shown as usage."""
    if status_replicas == 0:
        return Counted(_ceil(usage_milli / target_milli), usage_milli)
    ratio = usage_milli / (target_milli * status_replicas)
    replicas = status_replicas if tolerances.hold(ratio) else _ceil(usage_milli / target_milli)
    return Counted(replicas, math.ceil(usage_milli / status_replicas))


def _starts(pod: PodState, sample: PodSample, settings: HpaSettings, now: float) -> bool:
    """Whether the CPU that was measured may be that of starting."""
    if pod.ready is None or pod.started_at is None:
        return True
    if pod.started_at + settings.cpu_initialization_s > now:
        return not pod.ready or sample.at < pod.ready_changed_at + sample.window_s
    return not pod.ready and pod.started_at + settings.initial_readiness_delay_s > pod.ready_changed_at


def _usage(seen: Pods, groups: Groups) -> dict[str, int]:
    left_out = groups.ignored | groups.unready
    return {name: sample.value_milli for name, sample in seen.samples.items() if name not in left_out}


def _request(pod: PodState, seen: Pods) -> int | Problem:
    """What the pod, or its container, reserves."""
    chosen = pod.requests_milli
    if pod.pod_requests_milli and not seen.container:
        if seen.resource not in pod.pod_requests_milli:
            return Problem(f"missing pod-level request for {seen.resource} in Pod {pod.name}")
        return pod.pod_requests_milli[seen.resource]
    if seen.container:
        if seen.container not in chosen:
            return Problem(f"container {seen.container} not found in Pod {pod.name}")
        chosen = {seen.container: chosen[seen.container]}
    total = 0
    for container, amounts in chosen.items():
        if seen.resource not in amounts:
            return Problem(f"missing request for {seen.resource} in container {container} of Pod {pod.name}")
        total += amounts[seen.resource]
    return total


def _replicas(
    usage: Mapping[str, int],
    groups: Groups,
    current: int,
    tolerances: Tolerances,
    *,
    ratio: Callable[[Mapping[str, int]], float],
    fill: Callable[[str], int],
) -> int:
    """Pods without a sample are assumed to be what speaks against the change: busy (`fill`) when shrinking, idle when growing."""
    first = ratio(usage)
    grows_with_unready = bool(groups.unready) and first > 1.0
    if not grows_with_unready and not groups.missing:
        return current if tolerances.hold(first) else _ceil(first * groups.ready)
    assumed = dict(usage)
    if first < 1.0:
        assumed.update({name: fill(name) for name in groups.missing})
    elif first > 1.0:
        assumed.update(dict.fromkeys(groups.missing, 0))
    if grows_with_unready:
        assumed.update(dict.fromkeys(groups.unready, 0))
    second = ratio(assumed)
    if tolerances.hold(second) or (first < 1.0 < second) or (second < 1.0 < first):
        return current
    wanted = _ceil(second * len(assumed))
    turns_round = (second < 1.0 and wanted > current) or (second > 1.0 and wanted < current)
    return current if turns_round else wanted


def _mean(amounts: Mapping[str, int]) -> int:
    return sum(amounts.values()) // len(amounts)


def _ceil(amount: float) -> int:
    return min(math.ceil(min(amount, MAX_REPLICAS)), MAX_REPLICAS)
