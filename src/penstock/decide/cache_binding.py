"""Which model caches serve this service, and on which node groups?

As KServe's webhook matches: caches of the service's own namespace first, then the cluster's; an address of the service's is the cache's or
below it. Annotation serving.kserve.io/nodegroup binds. Without it the first group is not simply taken, as upstream does: it is the group whose
nodes the service's own selectors allow, then the one where most nodes have the model, then the one with most room. A service with several
addresses (upstream it is not matched) is bound to groups that have nodes in common; what no such group has is brought by its pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from penstock.contracts.model_bindings import BINDINGS, Bound, bound_to, is_below
from penstock.decide.cache_volumes import claim_name
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
LABELS, ANNOTATIONS = (CACHE_LABEL, CACHE_NAMESPACE_LABEL), (SOURCE_URI, CLAIM, BINDINGS)


@dataclass(frozen=True, slots=True)
class Binding:
    """A cache and a group, and why it is this one."""

    cache: Cache
    group: str
    reason: str

    @property
    def bound(self) -> Bound:
        """As it is written down."""
        meta, source = self.cache.metadata, self.cache.spec.source_model_uri
        own = meta.namespace if isinstance(self.cache, LocalModelNamespaceCache) else ""
        return Bound(meta.name, self.group, source, own)


def bind(service: InferenceService, known: Known) -> tuple[Binding, ...]:
    """In the order of the service's addresses; nothing for a service that no cache serves."""
    if service.metadata.annotations.get(DISABLED) == "true":
        return ()
    nodes = tuple(node for node in known.nodes if is_ready(node) and _may_run(service, node))
    named = service.metadata.annotations.get(NODE_GROUP)
    choices = [_choices(cache, known.groups, nodes, named) for cache in _caches(service, known)]
    found: list[Binding] = []
    there = frozenset(node.metadata.name for node in nodes)
    for number, some in enumerate(choices):
        others = [_all_nodes(other) for other in (*choices[:number], *choices[number + 1 :])]
        fitting = [one for one in some if not found or one.nodes & there]
        if not fitting:
            continue
        best = min(fitting, key=lambda one: one.rank(there, others))
        there &= best.nodes
        why = f"annotation {NODE_GROUP}" if named is not None else best.why
        found.append(Binding(best.cache, best.group, why))
    return tuple(found)


def model_uris(service: InferenceService) -> tuple[str, ...]:
    """The addresses of its models."""
    predictor = service.spec.predictor
    if predictor.storage_uris:
        return tuple(one.uri for one in predictor.storage_uris)
    uri = predictor.model.storage_uri if predictor.model is not None else None
    return (uri,) if uri else ()


def rebound(meta: ObjectMeta, bindings: Iterable[Binding]) -> Mapping[str, Mapping[str, str | None]]:
    """The merge patch of the metadata that makes the service bound like this; empty if it is."""
    bounds = tuple(one.bound for one in bindings)
    changes = {
        "labels": _changes(meta.labels, _labels(bounds), LABELS),
        "annotations": _changes(meta.annotations, _annotations(bounds), ANNOTATIONS),
    }
    return {part: change for part, change in changes.items() if change}


def is_stale(meta: ObjectMeta, caches: Iterable[Cache]) -> bool:
    """Whether the service's binding is none that it could have: other annotations, a cache or a group of it that is gone, or not as written."""
    bounds, named = bound_to(meta.annotations), meta.annotations.get(NODE_GROUP)
    if meta.annotations.get(DISABLED) == "true":
        return bool(bounds)
    there = {
        (one.cache.metadata.name, one.bound.namespace): one.cache
        for one in (Binding(cache, "", "") for cache in caches)
        if one.bound.namespace in ("", meta.namespace)
    }
    for bound in bounds:
        cache = there.get((bound.cache, bound.namespace))
        if cache is None or bound.source != cache.spec.source_model_uri:
            return True
        if bound.group not in cache.spec.node_groups or named not in (None, bound.group):
            return True
    return False


def _labels(bounds: tuple[Bound, ...]) -> Labels:
    if not bounds:
        return {}
    own = {CACHE_LABEL: bounds[0].cache}
    return own | ({CACHE_NAMESPACE_LABEL: bounds[0].namespace} if bounds[0].namespace else {})


def _annotations(bounds: tuple[Bound, ...]) -> Labels:
    if not bounds:
        return {}
    return {
        SOURCE_URI: bounds[0].source,
        CLAIM: claim_name(bounds[0].cache, bounds[0].group),
        BINDINGS: msgspec.json.encode(bounds).decode(),
    }


def _changes(there: Labels, wished: Labels, names: tuple[str, ...]) -> dict[str, str | None]:
    return {name: wished.get(name) for name in names if there.get(name) != wished.get(name)}


def _serves(cache: Cache, uri: str, namespace: str) -> bool:
    if cache.metadata.deletion_timestamp is not None:
        return False
    if isinstance(cache, LocalModelNamespaceCache) and cache.metadata.namespace != namespace:
        return False
    return is_below(uri, cache.spec.source_model_uri)


@dataclass(frozen=True, slots=True)
class _Choice:
    """A group of a cache: those of its nodes on which the service may run, how many of them have the model, how much room is left."""

    cache: Cache
    group: str
    nodes: frozenset[str]
    have: int
    free: int
    position: int

    @property
    def why(self) -> str:
        return f"{len(self.nodes)} of its nodes fit the service, {self.have} have the model, {self.free} bytes are free"

    def rank(
        self, there: frozenset[str], others: Iterable[frozenset[str]]
    ) -> tuple[bool, int, int, int, int]:
        """Less is better. `there` are the nodes that choices before this one have left, `others` those where the service's other models may be."""
        own = self.nodes & there
        apart = sum(not own & other for other in others)
        return not own, apart, -self.have, -self.free, self.position


def _caches(service: InferenceService, known: Known) -> tuple[Cache, ...]:
    """One for each address that has one; each once."""
    caches = sorted(known.caches, key=lambda one: not isinstance(one, LocalModelNamespaceCache))
    named = service.metadata.annotations.get(NODE_GROUP)
    found: dict[int, Cache] = {}
    for uri in model_uris(service):
        for cache in caches:
            if _serves(cache, uri, service.metadata.namespace) and _has_group(cache, named, known.groups):
                found[id(cache)] = cache
                break
    return tuple(found.values())


def _has_group(cache: Cache, named: str | None, groups: Iterable[LocalModelNodeGroup]) -> bool:
    if named is not None:
        return named in cache.spec.node_groups
    return any(group.metadata.name in cache.spec.node_groups for group in groups)


def _choices(
    cache: Cache, groups: Iterable[LocalModelNodeGroup], nodes: tuple[Node, ...], named: str | None
) -> tuple[_Choice, ...]:
    """The groups that come into question. One that is named does even where it does not exist."""
    known = {group.metadata.name: group for group in groups}
    found = []
    for position, name in enumerate(cache.spec.node_groups):
        if named not in (None, name) or (named is None and name not in known):
            continue
        own = frozenset(
            node.metadata.name for node in (nodes_of(known[name], nodes) if name in known else ())
        )
        have = sum(cache.status.node_status.get(node) == DOWNLOADED for node in own)
        free = _free(known[name]) if name in known else 0
        found.append(_Choice(cache, name, own, have, free, position))
    return tuple(found)


def _all_nodes(choices: Iterable[_Choice]) -> frozenset[str]:
    return frozenset().union(*(one.nodes for one in choices))


def _may_run(service: InferenceService, node: Node) -> bool:
    """By the predictor's own selectors."""
    predictor = service.spec.predictor
    spec = PodSpec(containers=(), node_selector=predictor.node_selector, affinity=predictor.affinity)
    return wanted(Pod(spec=spec), node)


def _free(group: LocalModelNodeGroup) -> int:
    available = group.status.available
    return to_bytes(group.spec.storage_limit if available is None else available)
