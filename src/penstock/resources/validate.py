"""Does an object keep the rules of its kind?

Two answers, as in Kubernetes: every cause that the kind's own syntax names, and the first rule that KServe's admission denies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from penstock.kit.errors import Cause
from penstock.resources.access import ApiKey, Tenant
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.caching import LocalModelCache, LocalModelNamespaceCache, LocalModelNodeGroup
from penstock.resources.core import ConfigMap, Namespace, PersistentVolumeClaim, PriorityClass, Secret
from penstock.resources.devices import DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice
from penstock.resources.graph import InferenceGraph
from penstock.resources.keda import ClusterTriggerAuthentication, ScaledObject, TriggerAuthentication
from penstock.resources.llm import LLMInferenceService, LLMInferenceServiceConfig
from penstock.resources.meta import Resource
from penstock.resources.objective import InferenceObjective
from penstock.resources.pod import Pod
from penstock.resources.rollout import Rollout, RolloutPolicy
from penstock.resources.routing import RoutingProfile
from penstock.resources.runtime import ClusterServingRuntime, ServingRuntime
from penstock.resources.serving import InferenceService
from penstock.resources.validate_access import validate_api_key, validate_tenant
from penstock.resources.validate_autoscaler import validate_autoscaler
from penstock.resources.validate_cache import deny_cache, validate_cache, validate_node_group
from penstock.resources.validate_core import (
    validate_claim,
    validate_config_map,
    validate_priority_class,
    validate_secret,
)
from penstock.resources.validate_devices import validate_devices
from penstock.resources.validate_graph import ROUTER_TYPES, deny_graph
from penstock.resources.validate_inference_service import advise_service, deny_service, validate_service
from penstock.resources.validate_objective import validate_objective
from penstock.resources.validate_pod import validate_pod
from penstock.resources.validate_rollout import validate_policy, validate_rollout
from penstock.resources.validate_routing import validate_routing_profile
from penstock.resources.validate_runtime import deny_runtime
from penstock.resources.validate_scaled_object import (
    validate_authentication,
    validate_scaled_object,
)
from penstock.resources.validate_vpa import advise_vpa, validate_vpa
from penstock.resources.validate_workload import (
    validate_deployment,
    validate_job,
    validate_replica_set,
)
from penstock.resources.validation import Causes, Denial, forbidden, metadata, one_of
from penstock.resources.vpa import VerticalPodAutoscaler
from penstock.resources.workload import Deployment, Job, ReplicaSet


def validate(obj: Resource, old: Resource | None = None) -> tuple[Cause, ...]:
    """Every cause in the object itself and in what it changes of `old`, which is of the same type."""
    own = metadata(obj.metadata, label=isinstance(obj, Namespace))
    return (*own, *_validate_kind(obj, cast("Any", old)))


def _validate_kind(obj: Resource, old: Any) -> Causes:  # noqa: PLR0912
    match obj:
        case InferenceService():
            yield from validate_service(obj)
        case Pod():
            yield from validate_pod(obj, old)
        case Deployment():
            yield from validate_deployment(obj, old)
        case ReplicaSet():
            yield from validate_replica_set(obj, old)
        case Job():
            yield from validate_job(obj, old)
        case HorizontalPodAutoscaler():
            yield from validate_autoscaler(obj)
        case VerticalPodAutoscaler():
            yield from validate_vpa(obj)
        case ScaledObject():
            yield from validate_scaled_object(obj)
        case TriggerAuthentication() | ClusterTriggerAuthentication():
            yield from validate_authentication(obj.spec)
        case ConfigMap():
            yield from validate_config_map(obj, old)
        case Secret():
            yield from validate_secret(obj, old)
        case PersistentVolumeClaim():
            yield from validate_claim(obj, old)
        case PriorityClass():
            yield from validate_priority_class(obj, old)
        case DeviceClass() | ResourceClaim() | ResourceClaimTemplate() | ResourceSlice():
            yield from validate_devices(obj, old)
        case LocalModelCache() | LocalModelNamespaceCache():
            yield from validate_cache(obj, old)
        case LocalModelNodeGroup():
            yield from validate_node_group(obj)
        case InferenceGraph():
            for name, node in obj.spec.nodes.items():
                yield from one_of(f"spec.nodes[{name}].routerType", node.router_type, ROUTER_TYPES)
        case LLMInferenceService() | LLMInferenceServiceConfig():
            yield from _validate_llm(obj)
        case ApiKey():
            yield from validate_api_key(obj)
        case Tenant():
            yield from validate_tenant(obj)
        case RolloutPolicy():
            yield from validate_policy(obj)
        case Rollout():
            yield from validate_rollout(obj)
        case RoutingProfile():
            yield from validate_routing_profile(obj)
        case InferenceObjective():
            yield from validate_objective(obj)


def deny(obj: Resource, old: Resource | None = None, peers: Iterable[Resource] = ()) -> Denial | None:
    """The first rule of KServe's admission that the object breaks. `peers` are the stored objects of its kind."""
    match obj:
        case InferenceService():
            return deny_service(obj, cast("InferenceService | None", old))
        case ServingRuntime() | ClusterServingRuntime():
            runtimes = [peer for peer in peers if isinstance(peer, type(obj))]
            return deny_runtime(obj, cast("Any", old), runtimes)
        case LocalModelCache():
            return deny_cache(obj, [peer for peer in peers if isinstance(peer, LocalModelCache)])
        case InferenceGraph():
            return deny_graph(obj)
    return None


def advise(obj: Resource) -> Iterator[str]:
    """Warnings about what is accepted."""
    if isinstance(obj, InferenceService):
        yield from advise_service(obj)
    elif isinstance(obj, VerticalPodAutoscaler):
        yield from advise_vpa(obj)


def _validate_llm(obj: LLMInferenceService | LLMInferenceServiceConfig) -> Causes:
    for path, workload in (("spec", obj.spec), ("spec.prefill", obj.spec.prefill)):
        if workload is not None and workload.replicas is not None and workload.scaling is not None:
            yield forbidden(
                path,
                "replicas and scaling are mutually exclusive; use scaling for autoscaled deployments or replicas for"
                " static deployments",
            )
