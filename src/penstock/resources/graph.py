"""InferenceGraph and TrainedModel (KServe v1alpha1): accepted and stored, not yet acted upon."""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import Condition, Json, Labels, Model, Quantity, Resource
from penstock.resources.pod import ResourceRequirements, Toleration
from penstock.resources.serving import Addressable


class InferenceStep(Model, frozen=True):
    """One call. Exactly one of `node_name`, `service_name` and `service_url` is set; `data` is $request or $response."""

    name: str = ""
    node_name: str = ""
    service_name: str = ""
    service_url: str = ""
    data: str = ""
    weight: int | None = None
    condition: str = ""
    dependency: str = ""
    map_predictions_to_instances: bool | None = None


class InferenceRouter(Model, frozen=True):
    """`router_type` is Sequence, Splitter, Ensemble or Switch."""

    router_type: str
    steps: tuple[InferenceStep, ...] = ()


class RouterTimeouts(Model, frozen=True):
    """In seconds."""

    server_read: int | None = None
    server_write: int | None = None
    server_idle: int | None = None
    service_client: int | None = None


class InferenceGraphSpec(Model, frozen=True):
    """Calls between services; it starts at the node named root."""

    nodes: dict[str, InferenceRouter]
    resources: ResourceRequirements | None = None
    affinity: Json = None
    timeout: int | None = None
    router_timeouts: RouterTimeouts | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    scale_target: int | None = None
    scale_metric: str | None = None
    tolerations: tuple[Toleration, ...] = ()
    node_selector: Labels = {}
    node_name: str = ""
    service_account_name: str = ""


class InferenceGraphStatus(Model, frozen=True):
    """What is known of the graph."""

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    url: str | None = None
    deployment_mode: str = ""
    annotations: Labels = {}


class InferenceGraph(Resource, frozen=True, kw_only=True):
    """Several services that answer as one."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1alpha1")
    kind: str = field(default_factory=lambda: "InferenceGraph")
    spec: InferenceGraphSpec
    status: InferenceGraphStatus = field(default_factory=InferenceGraphStatus)


class TrainedModelSource(Model, frozen=True):
    """A model's files, and the memory that it takes."""

    framework: str
    storage_uri: str
    memory: Quantity


class TrainedModelSpec(Model, frozen=True):
    """A model to load into a running multi-model service."""

    inference_service: str
    model: TrainedModelSource


class TrainedModelStatus(Model, frozen=True):
    """What is known of the model."""

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    url: str | None = None
    address: Addressable | None = None
    annotations: Labels = {}


class TrainedModel(Resource, frozen=True, kw_only=True):
    """One model of a multi-model service."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1alpha1")
    kind: str = field(default_factory=lambda: "TrainedModel")
    spec: TrainedModelSpec
    status: TrainedModelStatus = field(default_factory=TrainedModelStatus)
