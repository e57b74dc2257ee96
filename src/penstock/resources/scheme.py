"""Every kind that Penstock knows: its type, its names, and where the API serves it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from penstock.resources.access import ApiKey, Tenant
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.caching import (
    LocalModelCache,
    LocalModelNamespaceCache,
    LocalModelNode,
    LocalModelNodeGroup,
)
from penstock.resources.core import (
    ConfigMap,
    Event,
    Namespace,
    Node,
    PersistentVolumeClaim,
    PriorityClass,
    Secret,
    ServiceAccount,
)
from penstock.resources.devices import DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice
from penstock.resources.graph import InferenceGraph, TrainedModel
from penstock.resources.keda import ClusterTriggerAuthentication, ScaledObject, TriggerAuthentication
from penstock.resources.llm import LLMInferenceService, LLMInferenceServiceConfig
from penstock.resources.meta import Resource
from penstock.resources.objective import InferenceObjective
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.rollout import Rollout, RolloutPolicy
from penstock.resources.routing import RoutingProfile
from penstock.resources.runtime import ClusterServingRuntime, ClusterStorageContainer, ServingRuntime
from penstock.resources.serving import InferenceService
from penstock.resources.vpa import VerticalPodAutoscaler, VerticalPodAutoscalerCheckpoint
from penstock.resources.workload import Deployment, Job, ReplicaSet


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. `older_versions` are read as `api_version`; `acted_upon` is False where objects are only stored."""

    api_version: str
    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    namespaced: bool
    type: type[Resource]
    subresources: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    acted_upon: bool = True
    older_versions: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The API group, "" for Kubernetes' core."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """The version within the group."""
        return self.api_version.rpartition("/")[2]

    @property
    def qualified(self) -> str:
        """`Kind.group`, as Kubernetes names a kind in messages."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


STATUS = ("status",)
SCALABLE = ("status", "scale")
ALL = ("all",)
CORE, APPS, BATCH = "v1", "apps/v1", "batch/v1"
KSERVE, KSERVE_ALPHA, KSERVE_LLM = (f"serving.kserve.io/{v}" for v in ("v1beta1", "v1alpha1", "v1alpha2"))
PENSTOCK = "penstock.dev/v1alpha1"
KEDA = "keda.sh/v1alpha1"
VPA = "autoscaling.k8s.io/v1"
DEVICES = "resource.k8s.io/v1"
GATEWAY_INFERENCE = "inference.networking.x-k8s.io/v1alpha2"


def _kind(
    api_version: str,
    type_: type[Resource],
    *short_names: str,
    plural: str = "",
    namespaced: bool = True,
    subresources: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    acted_upon: bool = True,
    older_versions: tuple[str, ...] = (),
) -> Kind:
    singular = type_.__name__.lower()
    return Kind(
        api_version=api_version,
        kind=type_.__name__,
        plural=plural or f"{singular}s",
        singular=singular,
        short_names=short_names,
        namespaced=namespaced,
        type=type_,
        subresources=subresources,
        categories=categories,
        acted_upon=acted_upon,
        older_versions=older_versions,
    )


KINDS: tuple[Kind, ...] = (
    _kind(CORE, Namespace, "ns", namespaced=False, subresources=STATUS),
    _kind(CORE, Node, "no", namespaced=False, subresources=STATUS),
    _kind(CORE, Pod, "po", subresources=STATUS, categories=ALL),
    _kind(CORE, ConfigMap, "cm"),
    _kind(CORE, Secret),
    _kind(CORE, ServiceAccount, "sa"),
    _kind(CORE, PersistentVolumeClaim, "pvc", subresources=STATUS),
    _kind(CORE, Event, "ev"),
    _kind(APPS, Deployment, "deploy", subresources=SCALABLE, categories=ALL),
    _kind(APPS, ReplicaSet, "rs", subresources=SCALABLE, categories=ALL),
    _kind(BATCH, Job, subresources=STATUS, categories=ALL),
    _kind("autoscaling/v2", HorizontalPodAutoscaler, "hpa", subresources=STATUS, categories=ALL),
    _kind(VPA, VerticalPodAutoscaler, "vpa", subresources=STATUS),
    _kind(VPA, VerticalPodAutoscalerCheckpoint, "vpacheckpoint"),
    _kind("scheduling.k8s.io/v1", PriorityClass, "pc", plural="priorityclasses", namespaced=False),
    _kind(DEVICES, DeviceClass, plural="deviceclasses", namespaced=False),
    _kind(DEVICES, ResourceClaim, subresources=STATUS),
    _kind(DEVICES, ResourceClaimTemplate),
    _kind(DEVICES, ResourceSlice, namespaced=False),
    _kind(KSERVE, InferenceService, "isvc", subresources=STATUS, categories=ALL),
    _kind(KSERVE_ALPHA, ServingRuntime),
    _kind(KSERVE_ALPHA, ClusterServingRuntime, namespaced=False),
    _kind(KSERVE_ALPHA, ClusterStorageContainer, namespaced=False),
    _kind(KSERVE_ALPHA, InferenceGraph, "ig", subresources=STATUS, acted_upon=False),
    _kind(KSERVE_ALPHA, TrainedModel, "tm", subresources=STATUS, acted_upon=False),
    _kind(KSERVE_ALPHA, LocalModelCache, namespaced=False, subresources=STATUS),
    _kind(KSERVE_ALPHA, LocalModelNamespaceCache, subresources=STATUS),
    _kind(KSERVE_ALPHA, LocalModelNodeGroup, namespaced=False),
    _kind(KSERVE_ALPHA, LocalModelNode, namespaced=False, subresources=STATUS),
    _kind(
        KSERVE_LLM,
        LLMInferenceService,
        "llmisvc",
        subresources=STATUS,
        older_versions=(KSERVE_ALPHA,),
    ),
    _kind(
        KSERVE_LLM,
        LLMInferenceServiceConfig,
        subresources=STATUS,
        older_versions=(KSERVE_ALPHA,),
    ),
    _kind(KEDA, ScaledObject, "so", subresources=STATUS, categories=ALL),
    _kind(KEDA, TriggerAuthentication, "ta", "triggerauth", subresources=STATUS),
    _kind(
        KEDA, ClusterTriggerAuthentication, "cta", "clustertriggerauth", namespaced=False, subresources=STATUS
    ),
    _kind(GATEWAY_INFERENCE, InferenceObjective, subresources=STATUS),
    _kind(PENSTOCK, ApiKey, "ak", subresources=STATUS),
    _kind(PENSTOCK, Tenant, namespaced=False),
    _kind(PENSTOCK, PodAutoscaler, "pa", "kpa", subresources=STATUS, categories=ALL),
    _kind(PENSTOCK, RolloutPolicy, plural="rolloutpolicies"),
    _kind(PENSTOCK, Rollout, "ro", subresources=STATUS),
    _kind(PENSTOCK, RoutingProfile),
)

_BY_TYPE = MappingProxyType({kind.type: kind for kind in KINDS})
_BY_GVK = MappingProxyType(
    {(version, kind.kind): kind for kind in KINDS for version in (*kind.older_versions, kind.api_version)}
)
_BY_PATH = MappingProxyType({(kind.group, kind.version, kind.plural): kind for kind in KINDS})
_BY_WORD = MappingProxyType(
    {
        word: kind
        for kind in reversed(KINDS)
        for name in (kind.plural, kind.singular, *kind.short_names)
        for word in (name, f"{name}.{kind.group}", f"{name}.{kind.version}.{kind.group}")
    }
)


def kind_of(type_: type[Resource]) -> Kind:
    """The kind of a type. KeyError if the type is none of a kind: a fault of the caller."""
    return _BY_TYPE[type_]


def find(api_version: str, kind: str) -> Kind | None:
    """By what a manifest says, as `("apps/v1", "Deployment")`; older versions of a kind are found too."""
    return _BY_GVK.get((api_version, kind))


def by_path(group: str, version: str, plural: str) -> Kind | None:
    """By what a URL says, as `("apps", "v1", "deployments")`; the group of Kubernetes' core is ""."""
    return _BY_PATH.get((group, version, plural))


def resolve(word: str) -> Kind | None:
    """By what a person says: plural, singular, kind or short name in any case, optionally with group (`deploy.apps`)."""
    return _BY_WORD.get(word.lower())


def words() -> tuple[str, ...]:
    """The plain names that `resolve` knows, for "did you mean"."""
    return tuple(dict.fromkeys(name for k in KINDS for name in (k.singular, k.plural, *k.short_names)))
