"""What do we tell the user about this InferenceService?

KServe's conditions and modelStatus table, with failure messages that say what to do next.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import msgspec

from penstock.decide.handover import FAILED
from penstock.decide.revision import REVISION_LABEL
from penstock.decide.rollout import is_stopped
from penstock.decide.storage import INITIALIZER
from penstock.decide.workload import ComponentName, component_of
from penstock.kit.timestamps import rfc3339
from penstock.resources.annotations import mode_of
from penstock.resources.conditions import dated
from penstock.resources.meta import Condition
from penstock.resources.pod import ContainerStatus, Pod
from penstock.resources.serving import (
    Addressable,
    CanaryStatus,
    ComponentStatus,
    FailureInfo,
    InferenceService,
    InferenceServiceStatus,
    ModelCopies,
    ModelStates,
    ModelStatus,
)
from penstock.resources.workload import Deployment

READY_CONDITIONS = {
    "predictor": "PredictorReady",
    "transformer": "TransformerReady",
    "explainer": "ExplainerReady",
}
STUCK_REASONS = (
    "CrashLoopBackOff",
    "CreateContainerError",
    "CreateContainerConfigError",
    "ErrImageNeverPull",
    "RunContainerError",
    "InvalidImageName",
)
TOO_LATE = "ProgressDeadlineExceeded"


@dataclass(frozen=True, slots=True)
class Observed:
    """One component: its new rollout status, revisions, pods, and why its pods cannot be made ("" if they can).

    `standby` names the revisions that were ready once and get pods when they are asked for: without any they are ready still.
    `given_up` names those that never were within their progress deadline, and have no pods for it.
    """

    name: ComponentName
    rollout: ComponentStatus
    deployments: tuple[Deployment, ...]
    pods: tuple[Pod, ...]
    failure_reason: str = ""
    failure: str = ""
    standby: frozenset[str] = frozenset()
    given_up: frozenset[str] = frozenset()
    rolled_back: str = ""


def service_status(
    service: InferenceService,
    observed: tuple[Observed, ...],
    *,
    url: str,
    runtime_name: str,
    cluster_runtime_name: str,
    now: float,
    canaries: tuple[CanaryStatus, ...] = (),
) -> InferenceServiceStatus:
    """The whole status; times of conditions change only when their status does. A component that was removed only keeps its entry.

    The gateway takes every service in at once, so IngressReady follows the components, and Ready is the same for both.
    """
    stopped = is_stopped(service)
    present = [component for component in observed if component_of(service, component.name) is not None]
    known = service.status.model_status.last_failure_info if service.status.model_status else None
    parts = [_component_condition(component, stopped, known) for component in present]
    worst = min(parts, key=lambda condition: ("False", "Unknown", "True").index(condition.status))
    ready = worst.status == "True"
    conditions = [
        *parts,
        Condition(type="IngressReady", status=worst.status, reason=worst.reason),
        Condition(type="Ready", status=worst.status, reason=worst.reason, message=worst.message),
        *((Condition(type="Stopped", status="True"),) if stopped else ()),
        *_canary_condition(canaries),
        *(() if stopped else (_latest_condition(present, known),)),
    ]
    components: dict[str, ComponentStatus] = {
        component.name: _with_urls(service, component, url if component in present else None)
        for component in observed
    }
    predictor = next(component for component in present if component.name == "predictor")
    return InferenceServiceStatus(
        observed_generation=service.metadata.generation,
        conditions=tuple(
            dated(c, service.status.conditions, now) for c in sorted(conditions, key=lambda c: c.type)
        ),
        url=url,
        address=Addressable(url=url),
        components=components,
        model_status=_model_status(service, predictor, ready, now),
        deployment_mode=mode_of(service),
        serving_runtime_name=runtime_name,
        cluster_serving_runtime_name=cluster_runtime_name,
        canary_statuses=canaries,
    )


def _with_urls(service: InferenceService, component: Observed, url: str | None) -> ComponentStatus:
    """Where the component answers, and each revision with a tag by itself: `TAG-NAME` in place of the service's name (Knative)."""
    rollout = component.rollout
    if url is None:
        return msgspec.structs.replace(rollout, url=None)
    root, _, name = url.rpartition("/")
    behind = component.name == "predictor" and service.spec.transformer is not None
    own = f"{name}-predictor" if behind else name
    traffic = tuple(
        msgspec.structs.replace(target, url=f"{root}/{target.tag}-{own}") if target.tag else target
        for target in rollout.traffic
    )
    return msgspec.structs.replace(rollout, url=url, traffic=traffic)


def _canary_condition(canaries: tuple[CanaryStatus, ...]) -> tuple[Condition, ...]:
    """Whether all canaries of `spec.canary` are ready; the service's own readiness does not hang on it (KServe)."""
    if not canaries:
        return ()
    late = ", ".join(canary.name for canary in canaries if not canary.ready)
    if late:
        message = f"not ready: {late}"
        return (
            Condition(
                type="CanaryPredictorReady", status="False", reason="CanariesNotReady", message=message
            ),
        )
    return (Condition(type="CanaryPredictorReady", status="True", reason="AllCanariesReady"),)


def _latest_condition(present: list[Observed], known: FailureInfo | None) -> Condition:
    """Whether the newest revision of each component can serve; while one cannot, what was rolled out keeps the traffic."""
    kind = "LatestDeploymentReady"
    for component in present:
        newest, serving = (
            component.rollout.latest_created_revision,
            component.rollout.latest_rolledout_revision,
        )
        if newest and newest == component.rollout.latest_ready_revision and not component.failure:
            continue
        reason, message = _why_not_ready(component, {newest}, known)
        given = next((d for d in component.deployments if d.metadata.name == newest), None)
        if component.failure:
            reason, message = component.failure_reason, component.failure
        elif component.rolled_back:
            reason, message = "RolledBack", component.rolled_back
        elif given is not None and FAILED in given.metadata.annotations:
            reason, message = "HandoverFailed", given.metadata.annotations[FAILED]
        keeps = f"{serving} keeps the traffic" if serving and serving != newest else ""
        told = "; ".join(part for part in (message or f"{newest} is not ready yet", keeps) if part)
        return Condition(type=kind, status="False" if reason else "Unknown", reason=reason, message=told)
    return Condition(type=kind, status="True")


def _component_condition(component: Observed, stopped: bool, known: FailureInfo | None) -> Condition:
    kind = READY_CONDITIONS[component.name]
    if stopped:
        return Condition(
            type=kind, status="False", reason="Stopped", message="annotation serving.kserve.io/stop is set"
        )
    if component.failure:
        return Condition(
            type=kind, status="False", reason=component.failure_reason, message=component.failure
        )
    serving = {target.revision_name for target in component.rollout.traffic if target.percent}
    if any(d.metadata.name in serving and d.status.available_replicas for d in component.deployments):
        return Condition(type=kind, status="True")
    expected = serving or {component.rollout.latest_created_revision}
    reason, message = _why_not_ready(component, expected, known)
    if not reason and serving & component.standby:
        return Condition(type=kind, status="True")
    return Condition(type=kind, status="False" if reason else "Unknown", reason=reason, message=message)


def _why_not_ready(
    component: Observed, revisions: Container[str], known: FailureInfo | None
) -> tuple[str, str]:
    """What keeps `revisions` from serving; `known` is the last failure that was seen, which may be all that is left of it."""
    for pod in _pods_of(component, revisions):
        stuck = _stuck(pod)
        if stuck is not None:
            return _words(stuck[0], stuck[1], pod)
        placed = next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
        if placed is not None and placed.status == "False":
            return placed.reason, placed.message
    for deployment in component.deployments:
        for condition in deployment.status.conditions:
            failed = condition.type == "ReplicaFailure" or condition.reason == TOO_LATE
            if deployment.metadata.name in revisions and failed:
                return condition.reason, condition.message
    late = next((name for name in sorted(component.given_up) if name in revisions), "")
    return (TOO_LATE, _given_up(late, known)) if late else ("", "")


def _given_up(revision: str, known: FailureInfo | None) -> str:
    last = f"; at last: {known.message}" if known and known.model_revision_name == revision else ""
    return f"{revision} was not ready within its progress deadline and was given up{last}"


def _pods_of(component: Observed, revisions: Container[str]) -> list[Pod]:
    """How a pod that is being deleted ends says nothing."""
    return [
        pod
        for pod in component.pods
        if pod.metadata.labels.get(REVISION_LABEL) in revisions and pod.metadata.deletion_timestamp is None
    ]


def _stuck(pod: Pod) -> tuple[ContainerStatus, str] | None:
    """The first container that cannot go on, and what it says."""
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting, ended = status.state.waiting, status.state.terminated
        if waiting is not None and waiting.reason in STUCK_REASONS:
            last = status.last_state.terminated
            said = last.message.strip() if last and last.message else ""
            code = f"exit code {last.exit_code}" if last else ""
            return status, "; ".join(part for part in (waiting.message, code, said) if part)
        if ended is not None and ended.exit_code != 0:
            return status, ended.message.strip() or f"exit code {ended.exit_code}"
    return None


def _words(status: ContainerStatus, said: str, pod: Pod) -> tuple[str, str]:
    waiting = status.state.waiting
    reason = waiting.reason if waiting else "Error"
    look = f"see: kubectl logs -n {pod.metadata.namespace} {pod.metadata.name} -c {status.name}"
    if status.name == INITIALIZER:
        return "ModelLoadFailed", f"the model could not be fetched: {said}; {look}"
    if reason in ("CreateContainerError", "ErrImageNeverPull"):
        return reason, said
    return reason, f"container {status.name} does not stay up: {said}; {look}"


def _model_status(service: InferenceService, predictor: Observed, ready: bool, now: float) -> ModelStatus:
    before = service.status.model_status
    known = before.last_failure_info if before else None
    newest = predictor.rollout.latest_created_revision
    current = newest == predictor.rollout.latest_ready_revision
    pods = _pods_of(predictor, {newest})
    failed = [(pod, stuck) for pod in pods if (stuck := _stuck(pod)) is not None]
    ready_pods = sum(
        any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions) for pod in predictor.pods
    )
    copies = ModelCopies(failed_copies=len(failed), total_copies=ready_pods)
    active = _active_state(predictor, ready_pods)
    if predictor.failure:
        info = _info(known, predictor.failure_reason, predictor.failure, "", now)
        return _model("InvalidSpec", active, "Pending" if active else "", copies, info)
    if ready and current:
        return _model("UpToDate", active or "Loaded", active or "Loaded", copies, None)
    if failed:
        pod, (status, said) = failed[0]
        reason = "ModelLoadFailed"
        ended = status.state.terminated or status.last_state.terminated
        info = _info(
            known, reason, _words(status, said, pod)[1], newest, now, ended.exit_code if ended else None
        )
        return _model("BlockedByFailedLoad", active, "FailedToLoad", copies, info)
    if newest in predictor.given_up:
        info = _info(known, TOO_LATE, _given_up(newest, None), newest, now)
        last = known if known is not None and known.model_revision_name == newest else info
        return _model("BlockedByFailedLoad", active, "FailedToLoad", copies, last)
    loading = any(
        status.name == INITIALIZER and status.state.running is not None
        for pod in pods
        for status in pod.status.init_container_statuses
    )
    return _model("InProgress", active, "Loading" if loading else "Pending", copies, None)


def _active_state(predictor: Observed, ready_pods: int) -> str:
    """Of the model that serves: Standby is KServe's word for one that could, and is not loaded."""
    latest = predictor.rollout.latest_ready_revision
    if latest and ready_pods:
        return "Loaded"
    return "Standby" if latest in predictor.standby else ""


def _model(
    transition: str, active: str, target: str, copies: ModelCopies, info: FailureInfo | None
) -> ModelStatus:
    states = ModelStates(active_model_state=active, target_model_state=target) if active or target else None
    return ModelStatus(transition_status=transition, states=states, copies=copies, last_failure_info=info)


def _info(
    known: FailureInfo | None,
    reason: str,
    message: str,
    revision: str,
    now: float,
    exit_code: int | None = None,
) -> FailureInfo:
    """The same failure keeps the time at which it was first seen."""
    same = known is not None and (known.reason, known.message) == (reason, message)
    return FailureInfo(
        reason=reason,
        message=message,
        model_revision_name=revision,
        time=known.time if same and known else rfc3339(now),
        exit_code=exit_code,
    )
