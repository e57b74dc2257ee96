"""LLMInferenceService and its presets (KServe v1alpha2)."""

from __future__ import annotations

from msgspec import field

from penstock.resources.meta import Condition, Json, Labels, LocalObjectReference, Model, Resource
from penstock.resources.pod import PodSpec
from penstock.resources.serving import Addressable


class LLMModelSpec(Model, frozen=True):
    """The model, and the adapters that go with it."""

    uri: str
    name: str | None = None
    lora: Json = None
    confidential: Json = None


class Parallelism(Model, frozen=True):
    """How one copy spreads over devices."""

    tensor: int | None = None
    pipeline: int | None = None
    data: int | None = None
    data_local: int | None = None
    data_rpc_port: int | None = field(default=None, name="dataRPCPort")
    expert: bool | None = None


class LLMWorkloadSpec(Model, frozen=True):
    """Pods of one role. `replicas` and `scaling` exclude each other."""

    replicas: int | None = None
    scaling: Json = None
    parallelism: Parallelism | None = None
    template: PodSpec | None = None
    worker: PodSpec | None = None
    kv_cache_offloading: Json = None
    rollout_strategy: Json = None
    labels: Labels = {}
    annotations: Labels = {}


class LLMInferenceServiceSpec(LLMWorkloadSpec, frozen=True):
    """A language model, its router, and a prefill role of its own where that is wanted."""

    model: LLMModelSpec | None = None
    storage_initializer: Json = None
    router: Json = None
    prefill: LLMWorkloadSpec | None = None
    tracing: Json = None
    base_refs: tuple[LocalObjectReference, ...] = ()


class LLMInferenceServiceStatus(Model, frozen=True):
    """What is known of the service."""

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    url: str | None = None
    address: Addressable | None = None
    addresses: tuple[Json, ...] = ()
    annotations: Labels = {}
    applied_configs: Json = None
    router: Json = None
    workloads: Json = None


class LLMInferenceService(Resource, frozen=True, kw_only=True):
    """A language model behind its own router."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1alpha2")
    kind: str = field(default_factory=lambda: "LLMInferenceService")
    spec: LLMInferenceServiceSpec
    status: LLMInferenceServiceStatus = field(default_factory=LLMInferenceServiceStatus)


class LLMInferenceServiceConfigStatus(Model, frozen=True):
    """Who builds on the preset."""

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    annotations: Labels = {}
    referenced_by: Json = None


class LLMInferenceServiceConfig(Resource, frozen=True):
    """A preset that language model services build on."""

    api_version: str = field(default_factory=lambda: "serving.kserve.io/v1alpha2")
    kind: str = field(default_factory=lambda: "LLMInferenceServiceConfig")
    spec: LLMInferenceServiceSpec = field(default_factory=LLMInferenceServiceSpec)
    status: LLMInferenceServiceConfigStatus = field(default_factory=LLMInferenceServiceConfigStatus)
