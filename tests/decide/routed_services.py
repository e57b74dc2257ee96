"""Services and pods from which a table of routes is made."""

from __future__ import annotations

from typing import Any

import msgspec
from worlds import model, service

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.route_table import service_routes
from penstock.resources.admission import admit
from penstock.resources.pod import Pod
from penstock.resources.serving import (
    ComponentStatus,
    FailureInfo,
    InferenceService,
    InferenceServiceStatus,
    ModelStates,
    ModelStatus,
    TrafficTarget,
)

FIRST, SECOND = "iris-predictor-00001", "iris-predictor-00002"


def pod(
    name: str,
    revision: str = FIRST,
    *,
    ready: str = "True",
    namespace: str = "default",
    ip: str = "127.1.0.1",
    port: int | None = 9000,
    ports: tuple[tuple[str, int], ...] = (),
    args: tuple[str, ...] = (),
    annotations: dict[str, str] | None = None,
    deleted: bool = False,
    phase: str = "Running",
) -> Pod:
    document = {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"penstock.dev/revision": revision} if revision else {},
            "annotations": annotations or {},
            **({"deletionTimestamp": "2025-06-15T00:00:00Z"} if deleted else {}),
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                {
                    "name": "kserve-container",
                    "args": args,
                    "ports": [{"name": name, "containerPort": number} for name, number in ports]
                    or ([{"containerPort": port}] if port else []),
                }
            ],
        },
        "status": {
            "phase": phase,
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2025-06-15T00:00:00Z"}],
        },
    }
    return msgspec.convert(document, Pod)


def with_status(
    known: InferenceService, *traffic: tuple[str, int], component: str = "predictor", **status: Any
) -> InferenceService:
    targets = tuple(TrafficTarget(revision_name=name, percent=percent) for name, percent in traffic)
    components = known.status.components | {component: ComponentStatus(traffic=targets)}
    return msgspec.structs.replace(known, status=InferenceServiceStatus(components=components, **status))


def with_meta(known: InferenceService, **fields: Any) -> InferenceService:
    return msgspec.structs.replace(known, metadata=msgspec.structs.replace(known.metadata, **fields))


def iris(*traffic: tuple[str, int], **how: Any) -> InferenceService:
    return with_status(service(**how), *(traffic or ((FIRST, 100),)))


def with_transformer() -> InferenceService:
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris", "namespace": "default"},
        "spec": {
            "predictor": model("huggingface"),
            "transformer": {"containers": [{"name": "kserve-container", "image": "t"}], "timeout": 7},
        },
    }
    made = admit(document).object
    assert isinstance(made, InferenceService)
    return made


def only(known: InferenceService, *pods: Pod) -> ServiceRoute:
    [route] = service_routes([known], pods)
    return route


def failed(transition: str, message: str | None, revision: str = FIRST) -> ModelStatus:
    info = FailureInfo(reason="r", message=message, model_revision_name=revision) if message else None
    return ModelStatus(transition_status=transition, last_failure_info=info)


def target(state: str) -> ModelStatus:
    return ModelStatus(
        transition_status="InProgress", states=ModelStates(active_model_state="", target_model_state=state)
    )
