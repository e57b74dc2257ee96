"""InferenceService: a model to serve, the code around it, and how it scales and rolls out (KServe v1beta1).

A predictor is a PodSpec, a ComponentExtension and at most one implementation in one object: `model`, one of the legacy
framework fields (folded into `model` on admission), or `containers` of one's own.
"""

from __future__ import annotations

from msgspec import field

from penstock.resources.autoscaling import HorizontalPodAutoscalerBehavior
from penstock.resources.meta import Condition, Labels, Model, Quantity, Resource
from penstock.resources.pod import Container, PodSpec
from penstock.resources.workload import DeploymentStrategy


class ModelFormat(Model, frozen=True):
    """What the model's files are: `sklearn`, `huggingface`, …, with an optional version."""

    name: str
    version: str | None = None


class StorageSpec(Model, frozen=True):
    """Where the model is, by a `key` of the secret `storage-config`, with parameters that override it."""

    path: str | None = None
    key: str | None = None
    schema_path: str | None = None
    parameters: Labels = {}


class Confidential(Model, frozen=True):
    """Whether the model is encrypted, and which key opens it."""

    enabled: bool
    resource_id: str | None = None


class FrameworkSpec(Container, frozen=True):
    """A model and the container that serves it; container fields override the runtime's."""

    storage_uri: str | None = None
    runtime_version: str | None = None
    protocol_version: str | None = None
    storage: StorageSpec | None = None
    confidential: Confidential | None = None


class ModelSpec(FrameworkSpec, frozen=True):
    """A model of a named format. Without `runtime`, one is selected by the format."""

    model_format: ModelFormat | None = None
    runtime: str | None = None


class StorageUri(Model, frozen=True):
    """One of several sources; `mount_path` defaults to /mnt/models."""

    uri: str
    mount_path: str | None = None


class ResourceMetric(Model, frozen=True):
    """`type` is Utilization, Value or AverageValue, and the field of that name is set."""

    type: str = ""
    value: Quantity | None = None
    average_value: Quantity | None = None
    average_utilization: int | None = None


class ComponentResourceMetric(Model, frozen=True):
    """CPU or memory of the component's pods."""

    name: str
    target: ResourceMetric


class ExternalMetric(Model, frozen=True):
    """A query against `backend`, prometheus or graphite."""

    backend: str = ""
    server_address: str = ""
    query: str = ""
    namespace: str = ""


class AuthenticationReference(Model, frozen=True):
    """A KEDA TriggerAuthentication by name."""

    name: str


class ExternalMetricAuthentication(Model, frozen=True):
    """Credentials of the metric's server."""

    authentication_ref: AuthenticationReference
    auth_modes: str = ""


class ComponentExternalMetric(Model, frozen=True):
    """A metric from outside, and its target."""

    metric: ExternalMetric
    target: ResourceMetric
    authentication_ref: ExternalMetricAuthentication | None = None


class PodMetric(Model, frozen=True):
    """A metric that the pods themselves emit, by OpenTelemetry."""

    backend: str = ""
    server_address: str = ""
    metric_names: tuple[str, ...] = ()
    query: str = ""
    operation_over_time: str = ""


class ComponentPodMetric(Model, frozen=True):
    """A metric of the pods, and its target."""

    metric: PodMetric
    target: ResourceMetric


class ScaleMetric(Model, frozen=True):
    """`type` is Resource, External or PodMetric, and the field of that name is set."""

    type: str
    resource: ComponentResourceMetric | None = None
    external: ComponentExternalMetric | None = None
    podmetric: ComponentPodMetric | None = None


class AutoScaling(Model, frozen=True):
    """Metrics to scale by, and how fast."""

    metrics: tuple[ScaleMetric, ...] = ()
    behavior: HorizontalPodAutoscalerBehavior | None = None


class LoggerStorage(Model, frozen=True):
    """A bucket for logged payloads."""

    path: str | None = None
    key: str | None = None
    service_account_name: str = ""
    parameters: Labels = {}


class Logger(Model, frozen=True):
    """Where payloads are logged to; `mode` is all, request or response. `batch_interval` is a Go duration."""

    url: str | None = None
    mode: str = ""
    metadata_headers: tuple[str, ...] = ()
    metadata_annotations: tuple[str, ...] = ()
    storage: LoggerStorage | None = None
    marshaller_url: str | None = None
    batch_size: int | None = None
    batch_interval: str | None = None


class Batcher(Model, frozen=True):
    """Collects V1 predict requests: up to `max_batch_size` instances or `max_latency` milliseconds; `timeout` seconds."""

    max_batch_size: int | None = None
    max_latency: int | None = None
    timeout: int | None = None


class Component(PodSpec, frozen=True):
    """What every component has: a PodSpec, and KServe's ComponentExtension inline.

    `timeout` is in seconds; `max_replicas` 0 and `container_concurrency` 0 mean no limit.
    """

    min_replicas: int | None = None
    max_replicas: int | None = None
    scale_target: int | None = None
    scale_metric: str | None = None
    scale_metric_type: str | None = None
    auto_scaling: AutoScaling | None = None
    container_concurrency: int | None = None
    timeout: int | None = None
    canary_traffic_percent: int | None = None
    logger: Logger | None = None
    batcher: Batcher | None = None
    labels: Labels = {}
    annotations: Labels = {}
    deployment_strategy: DeploymentStrategy | None = None
    storage_uris: tuple[StorageUri, ...] = ()


class WorkerSpec(PodSpec, frozen=True):
    """The further pods of a model that spans several."""

    pipeline_parallel_size: int | None = None
    tensor_parallel_size: int | None = None


class PredictorSpec(Component, frozen=True):
    """What answers: a model, or containers of one's own."""

    name: str | None = None
    model: ModelSpec | None = None
    worker_spec: WorkerSpec | None = None
    storage_container_name: str | None = None
    sklearn: FrameworkSpec | None = None
    xgboost: FrameworkSpec | None = None
    tensorflow: FrameworkSpec | None = None
    pytorch: FrameworkSpec | None = None
    triton: FrameworkSpec | None = None
    onnx: FrameworkSpec | None = None
    huggingface: FrameworkSpec | None = None
    pmml: FrameworkSpec | None = None
    lightgbm: FrameworkSpec | None = None
    paddle: FrameworkSpec | None = None


class TransformerSpec(Component, frozen=True):
    """Code before and after the predictor, in containers of one's own."""


class ARTExplainerSpec(Container, frozen=True):
    """An explainer of the Adversarial Robustness Toolbox; `type` names the attack."""

    type: str = ""
    storage_uri: str = ""
    runtime_version: str | None = None
    config: Labels = {}
    storage: StorageSpec | None = None


class ExplainerSpec(Component, frozen=True):
    """What explains predictions."""

    art: ARTExplainerSpec | None = None


class CanarySpec(Model, frozen=True):
    """A second predictor that takes `traffic_percent` of the requests (Standard mode)."""

    traffic_percent: int
    predictor: PredictorSpec


class InferenceServiceSpec(Model, frozen=True):
    """A predictor, and optionally a transformer before it, an explainer beside it, canaries in its place."""

    predictor: PredictorSpec
    transformer: TransformerSpec | None = None
    explainer: ExplainerSpec | None = None
    canary: tuple[CanarySpec, ...] = ()


class Addressable(Model, frozen=True):
    """Where something answers inside the cluster."""

    url: str | None = None
    name: str | None = None
    ca_certs: str | None = field(default=None, name="CACerts")
    audience: str | None = None


class TrafficTarget(Model, frozen=True):
    """A revision's share of the traffic, in percent."""

    revision_name: str = ""
    percent: int | None = None
    latest_revision: bool | None = None
    tag: str = ""
    url: str | None = None
    configuration_name: str = ""


class ComponentStatus(Model, frozen=True):
    """Revisions of one component and where it answers."""

    latest_ready_revision: str = ""
    latest_created_revision: str = ""
    previous_rolledout_revision: str = ""
    latest_rolledout_revision: str = ""
    traffic: tuple[TrafficTarget, ...] = ()
    url: str | None = None
    rest_url: str | None = None
    grpc_url: str | None = None
    address: Addressable | None = None


class ModelStates(Model, frozen=True):
    """Pending, Standby, Loading, Loaded or FailedToLoad: of the model that serves, and of the one that shall."""

    active_model_state: str
    target_model_state: str = ""


class ModelCopies(Model, frozen=True):
    """Ready pods, and failed ones."""

    failed_copies: int
    total_copies: int | None = None


class FailureInfo(Model, frozen=True):
    """Why a model does not serve. `reason` is ModelLoadFailed, RuntimeUnhealthy, NoSupportingRuntime, …"""

    location: str = ""
    reason: str = ""
    message: str = ""
    model_revision_name: str = ""
    time: str | None = None
    exit_code: int | None = None


class ModelStatus(Model, frozen=True):
    """`transition_status` is UpToDate, InProgress, BlockedByFailedLoad or InvalidSpec."""

    transition_status: str
    states: ModelStates | None = None
    copies: ModelCopies | None = None
    last_failure_info: FailureInfo | None = None


class CanaryStatus(Model, frozen=True):
    """One canary of `spec.canary`."""

    name: str
    traffic_percent: int
    ready: bool
    model_status: ModelStatus | None = None


class InferenceServiceStatus(Model, frozen=True):
    """What is known of the service. `components` is keyed predictor, transformer, explainer."""

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    url: str | None = None
    address: Addressable | None = None
    components: dict[str, ComponentStatus] = {}
    model_status: ModelStatus | None = None
    deployment_mode: str = ""
    serving_runtime_name: str = ""
    cluster_serving_runtime_name: str = ""
    canary_statuses: tuple[CanaryStatus, ...] = ()
    annotations: Labels = {}


class InferenceService(Resource, frozen=True, kw_only=True):
    """A model that answers requests."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1beta1")
    kind: str = field(default_factory=lambda: "InferenceService")
    spec: InferenceServiceSpec
    status: InferenceServiceStatus = field(default_factory=InferenceServiceStatus)


FRAMEWORKS = (
    "sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface", "pmml", "lightgbm", "paddle",
)  # fmt: skip
"""The legacy framework fields of a predictor, in KServe's order; each is also the name of its model format."""
