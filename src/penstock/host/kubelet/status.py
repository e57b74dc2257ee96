"""What does a pod's status say, given what its containers do?

Source: Kubernetes' kubelet: phase, conditions and their reasons are worded as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.host.kubelet.layout import Verdict
from penstock.kit.timestamps import rfc3339
from penstock.resources.conditions import dated
from penstock.resources.meta import Condition
from penstock.resources.pod import ContainerStatus, Pod, PodIP, PodStatus

HOST_IP = "127.0.0.1"
_LACKING = {
    "ContainersNotInitialized": "containers with incomplete status",
    "ContainersNotReady": "containers with unready status",
    "ReadinessGatesNotReady": "readiness gates that are not true",
}
OWN_CONDITIONS = ("PodScheduled", "Initialized", "ContainersReady", "Ready")


@dataclass(frozen=True, slots=True)
class Observed:
    """What the kubelet knows of a pod. `verdict` is there if the pod as a whole was ended or stopped."""

    address: str
    started_at: float
    init: tuple[ContainerStatus, ...] = ()
    containers: tuple[ContainerStatus, ...] = ()
    verdict: Verdict | None = None


def pod_status(pod: Pod, observed: Observed, now: float) -> PodStatus:
    """The whole status; conditions of others are kept, transition times change only with the status they date."""
    verdict = observed.verdict
    phase = verdict.phase if verdict else phase_of(pod, observed.init, observed.containers)
    addresses = (PodIP(ip=observed.address),) if observed.address else ()
    return PodStatus(
        phase=phase,
        reason=verdict.reason if verdict else "",
        message=verdict.message if verdict else "",
        conditions=_conditions(pod, observed, phase, now),
        host_ip=HOST_IP,
        host_ips=(PodIP(ip=HOST_IP),),
        pod_ip=observed.address,
        pod_ips=addresses,
        start_time=rfc3339(observed.started_at),
        nominated_node_name=pod.status.nominated_node_name,
        qos_class=qos_class(pod),
        observed_generation=pod.metadata.generation or None,
        init_container_statuses=observed.init,
        container_statuses=observed.containers,
        resource_claim_statuses=pod.status.resource_claim_statuses,
    )


def phase_of(pod: Pod, init: Sequence[ContainerStatus], containers: Sequence[ContainerStatus]) -> str:
    """Pending, Running, Succeeded or Failed."""
    policy = pod.spec.restart_policy or "Always"
    ended = [status.state.terminated for status in containers]
    failed_init = any(s.state.terminated and s.state.terminated.exit_code for s in _ordinary(pod, init))
    if failed_init and policy == "Never":
        return "Failed"
    if not initialized(pod, init, containers):
        return "Pending"
    if any(_never_ran(status) for status in containers):
        return "Pending"
    still = (*containers, *init)  # a sidecar that runs on keeps the pod from its final phase
    if any(status.state.running for status in still) or policy == "Always":
        return "Running"
    if all(end is not None and end.exit_code == 0 for end in ended):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def initialized(pod: Pod, init: Sequence[ContainerStatus], containers: Sequence[ContainerStatus]) -> bool:
    """Whether every init container has completed and every sidecar started; so it stays once a container has run."""
    if not all(_never_ran(status) for status in containers):
        return True
    sidecars = {
        container.name for container in pod.spec.init_containers if container.restart_policy == "Always"
    }
    return all(
        bool(status.started)
        if status.name in sidecars
        else bool(status.state.terminated and status.state.terminated.exit_code == 0)
        for status in init
    )


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort, by the requests and limits for cpu and memory."""
    wishes = [container.resources for container in (*pod.spec.containers, *pod.spec.init_containers)]
    if not any(wish and (wish.requests or wish.limits) for wish in wishes):
        return "BestEffort"
    guaranteed = all(
        wish
        and all(
            wish.limits.get(r) and wish.requests.get(r, wish.limits[r]) == wish.limits[r]
            for r in ("cpu", "memory")
        )
        for wish in wishes
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _conditions(pod: Pod, observed: Observed, phase: str, now: float) -> tuple[Condition, ...]:
    old = {condition.type: condition for condition in pod.status.conditions}
    unready = [status.name for status in observed.containers if not status.ready]
    uninitialized = [s.name for s in observed.init if not initialized(pod, (s,), observed.containers)]
    done = phase == "Succeeded"
    why = "PodCompleted" if done else "ContainersNotReady"
    gates = [str(gate.get("conditionType", "")) for gate in pod.spec.readiness_gates]
    closed = [gate for gate in gates if gate not in old or old[gate].status != "True"]
    ready = bool(observed.containers) and not unready and not done
    fresh = [
        Condition(type="PodScheduled", status="True"),
        _condition(
            "Initialized",
            done or not uninitialized,
            "PodCompleted" if done else "ContainersNotInitialized",
            uninitialized,
        ),
        _condition("ContainersReady", ready, why, unready),
        _condition(
            "Ready",
            ready and not closed,
            "ReadinessGatesNotReady" if ready else why,
            closed if ready else unready,
        ),
    ]
    kept = [condition for condition in pod.status.conditions if condition.type not in OWN_CONDITIONS]
    return (*(dated(each, pod.status.conditions, now) for each in fresh), *kept)


def _condition(type_: str, holds: bool, reason: str, lacking: Sequence[str]) -> Condition:
    if reason == "PodCompleted":
        return Condition(type=type_, status="True" if holds else "False", reason=reason)
    if holds:
        return Condition(type=type_, status="True")
    return Condition(
        type=type_, status="False", reason=reason, message=f"{_LACKING[reason]}: [{' '.join(lacking)}]"
    )


def _ordinary(pod: Pod, init: Sequence[ContainerStatus]) -> list[ContainerStatus]:
    sidecars = {
        container.name for container in pod.spec.init_containers if container.restart_policy == "Always"
    }
    return [status for status in init if status.name not in sidecars]


def _never_ran(status: ContainerStatus) -> bool:
    return (
        status.state.running is None
        and status.state.terminated is None
        and status.last_state.terminated is None
    )
