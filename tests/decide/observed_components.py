"""Components of a service as they are observed, and what its status then says."""

from __future__ import annotations

from typing import Any

import msgspec
from worlds import NOW, offers, runtime, service, stored

from penstock.decide.plan import Surroundings, plan_service
from penstock.decide.status import Observed, service_status
from penstock.decide.workload import ComponentName
from penstock.kit.timestamps import rfc3339
from penstock.resources.meta import Condition
from penstock.resources.pod import Pod
from penstock.resources.serving import (
    ComponentStatus,
    FailureInfo,
    InferenceService,
    InferenceServiceStatus,
    ModelStatus,
    TrafficTarget,
)
from penstock.resources.workload import Deployment

URL = "http://127.0.0.1:8080/serving/default/iris"
FIRST, SECOND = "iris-predictor-00001", "iris-predictor-00002"
OWN_CODE = {"containers": [{"name": "kserve-container", "image": "mine"}]}
AT = rfc3339(NOW)
LOOK = "see: kubectl logs -n default p -c"


def deployment(name: str = FIRST, *, ready: bool = True, condition: Condition | None = None) -> Deployment:
    plan = plan_service(
        service(), Surroundings("x:1", cluster_runtimes=(runtime("r", offers("huggingface")),)), NOW
    )
    made = plan.components[0].rollout.create
    assert made is not None
    known = stored(made, ready=ready)
    conditions = (*known.status.conditions, *((condition,) if condition else ()))
    return msgspec.structs.replace(
        known,
        metadata=msgspec.structs.replace(known.metadata, name=name),
        status=msgspec.structs.replace(known.status, conditions=conditions),
    )


def pod(revision: str = FIRST, *, deleted: bool = False, **status: Any) -> Pod:
    metadata: dict[str, Any] = {
        "name": "p",
        "namespace": "default",
        "labels": {"penstock.dev/revision": revision},
    }
    if deleted:
        metadata["deletionTimestamp"] = "2025-06-15T00:00:00Z"
    return msgspec.convert({"metadata": metadata, "status": status}, Pod)


def container(name: str, last: dict[str, Any] | None, **state: Any) -> list[dict[str, Any]]:
    last_state = {"terminated": last} if last else {}
    fixed = {"name": name, "ready": False, "restartCount": 0, "image": "i"}
    return [{**fixed, "state": state, "lastState": last_state}]


def serving(last: dict[str, Any] | None = None, **state: Any) -> dict[str, Any]:
    return {"containerStatuses": container("main", last, **state)}


def fetching(last: dict[str, Any] | None = None, **state: Any) -> dict[str, Any]:
    return {"initContainerStatuses": container("storage-initializer", last, **state)}


READY: dict[str, Any] = {"conditions": [{"type": "Ready", "status": "True"}]}


def observed(
    *pods: Pod,
    name: ComponentName = "predictor",
    ready: bool = True,
    created: str = FIRST,
    serves: str = FIRST,
    percent: int = 100,
    condition: Condition | None = None,
    **failure: Any,
) -> Observed:
    """A component whose newest revision is `created`, and where `serves` ("": none) gets `percent` of the traffic."""
    targets = (TrafficTarget(revision_name=serves, percent=percent),) if serves else ()
    rollout = ComponentStatus(latest_created_revision=created, latest_ready_revision=serves, traffic=targets)
    deployments: tuple[Deployment, ...] = (deployment(serves, ready=ready),) if serves else ()
    if created != serves:
        deployments += (deployment(created, ready=False, condition=condition),)
    return Observed(name, rollout, deployments, pods, **failure)


def starting(*pods: Pod, **how: Any) -> Observed:
    return observed(*pods, serves="", **how)


def status_of(
    *parts: Observed, known: InferenceService | None = None, now: float = NOW
) -> InferenceServiceStatus:
    return service_status(
        known or service(), parts, url=URL, runtime_name="", cluster_runtime_name="r", now=now
    )


def conditions(status: InferenceServiceStatus) -> dict[str, str]:
    return {condition.type: condition.status for condition in status.conditions}


def model_of(status: InferenceServiceStatus) -> ModelStatus:
    assert status.model_status is not None
    return status.model_status


def failure_of(status: InferenceServiceStatus) -> FailureInfo:
    info = model_of(status).last_failure_info
    assert info is not None
    return info


def copies_of(status: InferenceServiceStatus) -> tuple[int, int | None]:
    """Failed ones, and all."""
    copies = model_of(status).copies
    assert copies is not None
    return copies.failed_copies, copies.total_copies


def ready_of(status: InferenceServiceStatus) -> Condition:
    [condition] = [c for c in status.conditions if c.type == "Ready"]
    return condition


CRASH = {"exitCode": 3, "message": " no memory \n"}


def sleeping(*pods: Pod) -> Observed:
    part = observed(*pods, ready=False)
    return Observed(part.name, part.rollout, part.deployments, part.pods, standby=frozenset({FIRST}))
