"""Runtimes: how a model format is served, as data (KServe v1alpha1 ServingRuntime, ClusterStorageContainer)."""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import Json, Labels, LocalObjectReference, Model, Resource
from penstock.resources.pod import Container, EnvVar, Toleration, Volume


class SupportedModelFormat(Model, frozen=True):
    """A format that the runtime serves. Only with `auto_select` is it chosen unasked; a higher `priority` goes first."""

    name: str
    version: str | None = None
    auto_select: bool | None = None
    priority: int | None = None


class ServingRuntimePodSpec(Model, frozen=True):
    """The part of a PodSpec that a runtime may set; the serving container is named `kserve-container`."""

    containers: tuple[Container, ...]
    volumes: tuple[Volume, ...] = ()
    node_selector: Labels = {}
    affinity: Json = None
    tolerations: tuple[Toleration, ...] = ()
    labels: Labels = {}
    annotations: Labels = {}
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    host_ipc: bool | None = field(default=None, name="hostIPC")
    scheduler_name: str = ""
    resource_claims: tuple[Json, ...] = ()


class RuntimeWorkerSpec(ServingRuntimePodSpec, frozen=True):
    """The further pods of a model that spans several."""

    pipeline_parallel_size: int | None = None
    tensor_parallel_size: int | None = None


class BuiltInAdapter(Model, frozen=True):
    """A ModelMesh adapter: kept, not acted upon."""

    server_type: str = ""
    runtime_management_port: int | None = None
    mem_buffer_bytes: int | None = None
    model_loading_timeout_millis: int | None = None
    env: tuple[EnvVar, ...] = ()


class StorageHelper(Model, frozen=True):
    """A ModelMesh puller: kept, not acted upon."""

    disabled: bool | None = None


class ServingRuntimeSpec(ServingRuntimePodSpec, frozen=True):
    """What is served, over which protocols, by which command. No `protocol_versions` means all of them."""

    supported_model_formats: tuple[SupportedModelFormat, ...] = ()
    protocol_versions: tuple[str, ...] = ()
    disabled: bool | None = None
    multi_model: bool | None = None
    worker_spec: RuntimeWorkerSpec | None = None
    built_in_adapter: BuiltInAdapter | None = None
    grpc_endpoint: str | None = None
    grpc_data_endpoint: str | None = None
    http_data_endpoint: str | None = None
    replicas: int | None = None
    storage_helper: StorageHelper | None = None


class ServingRuntime(Resource, frozen=True, kw_only=True):
    """A runtime of one namespace."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1alpha1")
    kind: str = field(default_factory=lambda: "ServingRuntime")
    spec: ServingRuntimeSpec
    status: Json = None


class ClusterServingRuntime(Resource, frozen=True, kw_only=True):
    """A runtime of every namespace."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1alpha1")
    kind: str = field(default_factory=lambda: "ClusterServingRuntime")
    spec: ServingRuntimeSpec
    status: Json = None


class SupportedUriFormat(Model, frozen=True):
    """URIs by `prefix`, or by `regex`."""

    prefix: str = ""
    regex: str = ""


class StorageContainerSpec(Model, frozen=True):
    """A container that brings models. `workload_type` is initContainer (default) or localModelDownloadJob."""

    container: Container
    supported_uri_formats: tuple[SupportedUriFormat, ...]
    workload_type: str = ""
    supports_multi_model_download: bool | None = None


class ClusterStorageContainer(Resource, frozen=True, kw_only=True):
    """Which container brings models from which sources."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1alpha1")
    kind: str = field(default_factory=lambda: "ClusterStorageContainer")
    spec: StorageContainerSpec
    disabled: bool | None = None
