"""How urgent requests are that name an objective (Gateway API Inference Extension, `inference.networking.x-k8s.io/v1alpha2`)."""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import Condition, Model, Resource

POOL_GROUP = "inference.networking.k8s.io"
POOL_KIND = "InferencePool"


class PoolReference(Model, frozen=True):
    """The pool that an objective is for: an InferenceService of its namespace, or the InferencePool that KServe makes of one."""

    name: str = ""
    group: str = POOL_GROUP
    kind: str = POOL_KIND


class InferenceObjectiveSpec(Model, frozen=True):
    """Requests of higher `priority` go first, always; below 0 they leave room for others. Without one it is 0."""

    pool_ref: PoolReference = field(default_factory=PoolReference)
    priority: int | None = None


class InferenceObjectiveStatus(Model, frozen=True):
    """What controllers say of it: condition `Accepted`."""

    conditions: tuple[Condition, ...] = ()


class InferenceObjective(Resource, frozen=True, kw_only=True):
    """Named by the request header x-llm-d-inference-objective."""

    api_version: str = field(default_factory=lambda: "inference.networking.x-k8s.io/v1alpha2")
    kind: str = field(default_factory=lambda: "InferenceObjective")
    spec: InferenceObjectiveSpec = field(default_factory=InferenceObjectiveSpec)
    status: InferenceObjectiveStatus = field(default_factory=InferenceObjectiveStatus)
