"""Which model cache serves this service, and on which node group?

As KServe's webhook matches: caches of the service's own namespace first, then the cluster's; the storageUri is the cache's address or
below it. Annotation serving.kserve.io/nodegroup binds. Without it the first group is not simply taken, as upstream does: it is the
group whose nodes the service's own selectors allow, then the one where most nodes have the model, then the one with most room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.decide.caching import (
    CACHE_LABEL,
    CACHE_NAMESPACE_LABEL,
    DOWNLOADED,
    Cache,
    Known,
    is_ready,
    nodes_of,
)
from penstock.decide.node_rules import wanted
from penstock.kit.quantity import to_bytes
from penstock.resources.caching import LocalModelNamespaceCache, LocalModelNodeGroup
from penstock.resources.core import Node
from penstock.resources.meta import Labels, ObjectMeta
from penstock.resources.pod import Pod, PodSpec
from penstock.resources.serving import InferenceService

NODE_GROUP = "serving.kserve.io/nodegroup"
DISABLED = "serving.kserve.io/disable-localmodel"
SOURCE_URI = "internal.serving.kserve.io/localmodel-sourceuri"
CLAIM = "internal.serving.kserve.io/localmodel-pvc-name"
GROUP = "penstock.dev/localmodel-nodegroup"
LABELS, ANNOTATIONS = (CACHE_LABEL, CACHE_NAMESPACE_LABEL), (SOURCE_URI, CLAIM, GROUP)


@dataclass(frozen=True, slots=True)
class Binding:
    """The cache and the group, and why it is this one."""

    cache: Cache
    group: str
    reason: str

    def labels(self) -> Labels:
        """What the service is found by."""
        namespace = self.cache.metadata.namespace if isinstance(self.cache, LocalModelNamespaceCache) else ""
        own = {CACHE_LABEL: self.cache.metadata.name}
        return own | ({CACHE_NAMESPACE_LABEL: namespace} if namespace else {})

    def annotations(self) -> Labels:
        """What its pods read."""
        return {
            SOURCE_URI: self.cache.spec.source_model_uri,
            CLAIM: f"{self.cache.metadata.name}-{self.group}",
            GROUP: self.group,
        }


def bind(service: InferenceService, known: Known) -> Binding | None:
    """None for a service that no cache serves."""
    uri = storage_uri(service)
    if not uri or service.metadata.annotations.get(DISABLED) == "true":
        return None
    for cache in sorted(known.caches, key=lambda one: not isinstance(one, LocalModelNamespaceCache)):
        if not _serves(cache, uri, service.metadata.namespace):
            continue
        if chosen := _group(service, cache, known):
            return Binding(cache, *chosen)
    return None


def storage_uri(service: InferenceService) -> str:
    """The one address of its model; services with several are not matched."""
    predictor = service.spec.predictor
    if predictor.storage_uris or predictor.model is None:
        return ""
    return predictor.model.storage_uri or ""


def rebound(meta: ObjectMeta, binding: Binding | None) -> Mapping[str, Mapping[str, str | None]]:
    """The merge patch of the metadata that makes the service bound like this; empty if it is."""
    labels = binding.labels() if binding else {}
    annotations = binding.annotations() if binding else {}
    changes = {
        "labels": _changes(meta.labels, labels, LABELS),
        "annotations": _changes(meta.annotations, annotations, ANNOTATIONS),
    }
    return {part: change for part, change in changes.items() if change}


def _changes(there: Labels, wished: Labels, names: tuple[str, ...]) -> dict[str, str | None]:
    return {name: wished.get(name) for name in names if there.get(name) != wished.get(name)}


def _serves(cache: Cache, uri: str, namespace: str) -> bool:
    if cache.metadata.deletion_timestamp is not None:
        return False
    if isinstance(cache, LocalModelNamespaceCache) and cache.metadata.namespace != namespace:
        return False
    source = cache.spec.source_model_uri.rstrip("/")
    return uri.rstrip("/") == source or uri.startswith(f"{source}/")


def _group(service: InferenceService, cache: Cache, known: Known) -> tuple[str, str] | None:
    """A group of the cache, and why."""
    named = service.metadata.annotations.get(NODE_GROUP)
    if named is not None:
        return (named, f"annotation {NODE_GROUP}") if named in cache.spec.node_groups else None
    groups = {group.metadata.name: group for group in known.groups}
    ranked = []
    for position, name in enumerate(cache.spec.node_groups):
        if name not in groups:
            continue
        nodes = [n for n in nodes_of(groups[name], known.nodes) if is_ready(n) and _may_run(service, n)]
        there = sum(cache.status.node_status.get(n.metadata.name) == DOWNLOADED for n in nodes)
        free = _free(groups[name])
        why = f"{len(nodes)} of its nodes fit the service, {there} have the model, {free} bytes are free"
        ranked.append((not nodes, -there, -free, position, name, why))
    if not ranked:
        return None
    *_, name, why = min(ranked)
    return name, why


def _may_run(service: InferenceService, node: Node) -> bool:
    """By the predictor's own selectors."""
    predictor = service.spec.predictor
    spec = PodSpec(containers=(), node_selector=predictor.node_selector, affinity=predictor.affinity)
    return wanted(Pod(spec=spec), node)


def _free(group: LocalModelNodeGroup) -> int:
    available = group.status.available
    return to_bytes(group.spec.storage_limit if available is None else available)
