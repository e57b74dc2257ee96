"""Small services, runtimes and Deployments for tests of decisions."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.resources.admission import admit
from penstock.resources.meta import Condition
from penstock.resources.runtime import ClusterServingRuntime, ServingRuntime
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment, DeploymentStatus

NOW = 1_750_000_000.0


def service(
    name: str = "iris",
    *,
    annotations: dict[str, str] | None = None,
    transformer: dict[str, Any] | None = None,
    **predictor: Any,
) -> InferenceService:
    """A stored service; by default it has a huggingface model, and no transformer."""
    default = {"model": {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://a/b"}}
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations or {}},
        "spec": {
            "predictor": {**default, **predictor},
            **({"transformer": transformer} if transformer else {}),
        },
    }
    admitted = admit(document).object
    assert isinstance(admitted, InferenceService)
    return msgspec.structs.replace(
        admitted, metadata=msgspec.structs.replace(admitted.metadata, uid=f"uid-{name}")
    )


def model(format_: str, version: str | None = None, **fields: Any) -> dict[str, Any]:
    """The `model` of a predictor."""
    chosen = {"name": format_, **({"version": version} if version else {})}
    return {"model": {"modelFormat": chosen, "storageUri": "s3://b/m", **fields}}


def runtime(name: str, *formats: dict[str, Any], namespace: str = "", **spec: Any) -> Any:
    """A runtime; in a namespace if one is given."""
    container = {"name": "kserve-container", "image": "x:1", "args": ["--model_name={{.Name}}"]}
    document = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime" if namespace else "ClusterServingRuntime",
        "metadata": {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            **spec.pop("metadata", {}),
        },
        "spec": {"supportedModelFormats": list(formats), "containers": [container], **spec},
    }
    return msgspec.convert(document, ServingRuntime if namespace else ClusterServingRuntime)


def offers(
    name: str, version: str | None = None, *, auto: bool = True, priority: int | None = None
) -> dict[str, Any]:
    """One supported format."""
    offered: dict[str, Any] = {"name": name, "autoSelect": auto}
    if version:
        offered["version"] = version
    if priority is not None:
        offered["priority"] = priority
    return offered


def stored(deployment: Deployment, *, ready: bool, created: str = "2025-06-15T00:00:00Z") -> Deployment:
    """The Deployment as the host has it, with all or none of its pods available."""
    size = deployment.spec.replicas or 0
    status = DeploymentStatus(
        observed_generation=1,
        replicas=size,
        available_replicas=size if ready else 0,
        ready_replicas=size if ready else 0,
        conditions=(Condition(type="Available", status="True" if ready else "False", reason="x"),),
    )
    metadata = msgspec.structs.replace(deployment.metadata, generation=1, creation_timestamp=created)
    return msgspec.structs.replace(deployment, metadata=metadata, status=status)
