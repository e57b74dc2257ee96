"""Which model files should each node hold?

Caches name node groups, groups are nodes by the affinity of their volume (KServe, LocalModelCache). Unlike upstream a group's
storageLimit holds: models are let in from the oldest cache on, those that are on nodes already before all others, each address
counted once, and what does not fit is refused with the numbers before its first byte is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from penstock.contracts.model_bindings import bound_to
from penstock.decide.node_rules import wanted
from penstock.kit.quantity import to_bytes
from penstock.resources.caching import (
    CacheCopies,
    LocalModelCache,
    LocalModelCacheStatus,
    LocalModelInfo,
    LocalModelNamespaceCache,
    LocalModelNode,
    LocalModelNodeGroup,
    LocalModelNodeGroupStatus,
    NamespacedName,
)
from penstock.resources.core import Node
from penstock.resources.pod import Pod, PodSpec
from penstock.resources.serving import InferenceService

Cache = LocalModelCache | LocalModelNamespaceCache
CACHE_LABEL = "internal.serving.kserve.io/localmodel"
CACHE_NAMESPACE_LABEL = "internal.serving.kserve.io/localmodel-namespace"
INFERENCE, LLM = "InferenceService", "LLMInferenceService"
PENDING, DOWNLOADED, FAILED, NOT_READY = (
    "NodeDownloadPending",
    "NodeDownloaded",
    "NodeDownloadError",
    "NodeNotReady",
)
ON_CACHE = {
    "ModelDownloadPending": PENDING,
    "ModelDownloading": "NodeDownloading",
    "ModelDownloaded": DOWNLOADED,
    "ModelDownloadError": FAILED,
}
"""A cache's word for what a node says."""


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that is said about caches now."""

    caches: tuple[Cache, ...] = ()
    groups: tuple[LocalModelNodeGroup, ...] = ()
    nodes: tuple[Node, ...] = ()
    holds: tuple[LocalModelNode, ...] = ()
    services: tuple[InferenceService, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A cache that a group does not take. Sizes are 0 where the group is not there."""

    cache: str
    group: str
    message: str
    asked_bytes: int = 0
    used_bytes: int = 0
    limit_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What each node shall hold, and what to say. Caches are named as nodes name them: `name` or `namespace/name`."""

    nodes: Mapping[str, tuple[LocalModelInfo, ...]] = field(default_factory=dict)
    caches: Mapping[str, LocalModelCacheStatus] = field(default_factory=dict)
    groups: Mapping[str, LocalModelNodeGroupStatus] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()


def model_key(cache: Cache) -> str:
    """The cache as LocalModelNode's status names it."""
    meta = cache.metadata
    return f"{meta.namespace}/{meta.name}" if isinstance(cache, LocalModelNamespaceCache) else meta.name


def is_ready(node: Node) -> bool:
    """By its condition."""
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)


def nodes_of(group: LocalModelNodeGroup, nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Those that the group's volume can be reached from; none without an affinity."""
    affinity = group.spec.persistent_volume_spec.node_affinity
    if affinity is None or affinity.required is None:
        return ()
    required = {"requiredDuringSchedulingIgnoredDuringExecution": msgspec.to_builtins(affinity.required)}
    pod = Pod(spec=PodSpec(containers=(), affinity={"nodeAffinity": required}))
    return tuple(node for node in nodes if wanted(pod, node))


def plan_caches(known: Known) -> CachePlan:
    """Caches that are being deleted hold nothing any more."""
    wanted = [cache for cache in known.caches if cache.metadata.deletion_timestamp is None]
    members = {group.metadata.name: nodes_of(group, known.nodes) for group in known.groups}
    held = {hold.metadata.name: hold for hold in known.holds}
    admitted, used, refusals = _admitted(wanted, known.groups, members, held)
    nodes: dict[str, list[LocalModelInfo]] = {name: [] for name in held}
    statuses = {}
    for cache in wanted:
        words: dict[str, str] = {}
        for group in cache.spec.node_groups:
            for node in members.get(group, ()):
                name = node.metadata.name
                if name in words:
                    continue
                words[name] = _word(cache, node, held.get(name), fits=(model_key(cache), group) in admitted)
                if words[name] != NOT_READY and (model_key(cache), group) in admitted:
                    nodes.setdefault(name, []).append(_info(cache, group))
        statuses[model_key(cache)] = _status(cache, words, known.services)
    groups = {group.metadata.name: _group_status(group, used) for group in known.groups}
    return CachePlan({name: tuple(infos) for name, infos in nodes.items()}, statuses, groups, tuple(refusals))


def over_limit(
    new: Cache, caches: Iterable[Cache], groups: Iterable[LocalModelNodeGroup]
) -> tuple[Refusal, ...]:
    """The groups that have no room for a new or changed cache beside all others."""
    others = [c for c in caches if model_key(c) != model_key(new) and c.metadata.deletion_timestamp is None]
    refusals = []
    for group in groups:
        name = group.metadata.name
        if name not in new.spec.node_groups:
            continue
        sizes = _sizes(c for c in others if name in c.spec.node_groups)
        after = sizes | {new.spec.source_model_uri: max(_size(new), sizes.get(new.spec.source_model_uri, 0))}
        if sum(after.values()) > _limit(group):
            refusals.append(_refusal(new, name, sum(sizes.values()), _limit(group)))
    return tuple(refusals)


def room_for(
    info: LocalModelInfo, caches: Iterable[Cache], groups: Iterable[LocalModelNodeGroup]
) -> int | None:
    """How large the model may turn out to be, whatever its cache says: what the other models leave of its group (bytes)."""
    group = next((one for one in groups if one.metadata.name == info.node_group), None)
    if group is None:
        return None
    sizes = _sizes(c for c in caches if info.node_group in c.spec.node_groups)
    return _limit(group) - sum(size for uri, size in sizes.items() if uri != info.source_model_uri)


def _admitted(
    caches: list[Cache],
    groups: tuple[LocalModelNodeGroup, ...],
    members: Mapping[str, tuple[Node, ...]],
    held: Mapping[str, LocalModelNode],
) -> tuple[set[tuple[str, str]], dict[str, dict[str, int]], list[Refusal]]:
    """Pairs of cache and group that go together; per group the bytes by address; and those that do not."""
    limits = {group.metadata.name: _limit(group) for group in groups}
    used: dict[str, dict[str, int]] = defaultdict(dict)
    admitted, refusals = set(), []

    def turn(pair: tuple[Cache, str]) -> tuple[bool, str, str]:
        cache, group = pair
        there = any(_says(held.get(n.metadata.name), cache) == DOWNLOADED for n in members.get(group, ()))
        return not there, cache.metadata.creation_timestamp or "", model_key(cache)

    for cache, group in sorted(((c, g) for c in caches for g in c.spec.node_groups), key=turn):
        if group not in limits:
            refusals.append(Refusal(model_key(cache), group, f"NodeGroup {group} not found"))
            continue
        taken, uri = used[group], cache.spec.source_model_uri
        after = taken | {uri: max(_size(cache), taken.get(uri, 0))}
        if sum(after.values()) > limits[group]:
            refusals.append(_refusal(cache, group, sum(taken.values()), limits[group]))
        else:
            used[group] = after
            admitted.add((model_key(cache), group))
    return admitted, used, refusals


def _refusal(cache: Cache, group: str, used: int, limit: int) -> Refusal:
    asked = _size(cache)
    message = (
        f"node group {group} has no room: {cache.metadata.name} asks for {asked} bytes, {used} of {limit} are used,"
        f" {used + asked - limit} are missing"
    )
    return Refusal(model_key(cache), group, message, asked, used, limit)


def _word(cache: Cache, node: Node, hold: LocalModelNode | None, *, fits: bool) -> str:
    said = _says(hold, cache)
    if said:
        return said
    if not is_ready(node):
        return NOT_READY
    return PENDING if fits else FAILED


def _says(hold: LocalModelNode | None, cache: Cache) -> str:
    """What the node says about the model, in the cache's words; "" if it was not told of it, or says nothing."""
    if hold is None or not any(_names(info, cache) for info in hold.spec.local_models):
        return ""
    return ON_CACHE.get(hold.status.model_status.get(model_key(cache), ""), PENDING)


def _names(info: LocalModelInfo, cache: Cache) -> bool:
    own = cache.metadata.namespace if isinstance(cache, LocalModelNamespaceCache) else ""
    return info.model_name == cache.metadata.name and info.namespace == own


def _info(cache: Cache, group: str) -> LocalModelInfo:
    return LocalModelInfo(
        source_model_uri=cache.spec.source_model_uri,
        model_name=cache.metadata.name,
        namespace=cache.metadata.namespace if isinstance(cache, LocalModelNamespaceCache) else "",
        node_group=group,
        service_account_name=cache.spec.service_account_name,
        storage=cache.spec.storage,
    )


def _status(
    cache: Cache, words: Mapping[str, str], services: tuple[InferenceService, ...]
) -> LocalModelCacheStatus:
    states = list(words.values())
    copies = CacheCopies(available=states.count(DOWNLOADED), total=len(states), failed=states.count(FAILED))
    return LocalModelCacheStatus(
        node_status=dict(sorted(words.items())),
        copies=copies,
        inference_services=_users(cache, services, INFERENCE),
        llm_inference_services=_users(cache, services, LLM),
    )


def _users(cache: Cache, services: tuple[InferenceService, ...], kind: str) -> tuple[NamespacedName, ...]:
    found = ((user_of(service, cache), service.metadata.namespace) for service in services)
    names = dict.fromkeys((name, namespace) for (of_kind, name), namespace in found if of_kind == kind)
    return tuple(NamespacedName(name, namespace) for name, namespace in names)


def user_of(service: InferenceService, cache: Cache) -> tuple[str, str]:
    """Kind and name of what uses the cache by this service, which an LLMInferenceService may have asked for; ("", "") if it does not."""
    own = cache.metadata.namespace if isinstance(cache, LocalModelNamespaceCache) else ""
    bounds = bound_to(service.metadata.annotations)
    if not any((one.cache, one.namespace) == (cache.metadata.name, own) for one in bounds):
        return "", ""
    owner = next((one for one in service.metadata.owner_references if one.kind == LLM), None)
    return (LLM, owner.name) if owner is not None else (INFERENCE, service.metadata.name)


def _group_status(
    group: LocalModelNodeGroup, used: Mapping[str, Mapping[str, int]]
) -> LocalModelNodeGroupStatus:
    taken = sum(used.get(group.metadata.name, {}).values())
    return LocalModelNodeGroupStatus(used=str(taken), available=str(max(0, _limit(group) - taken)))


def _sizes(caches: Iterable[Cache]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for cache in caches:
        uri = cache.spec.source_model_uri
        sizes[uri] = max(_size(cache), sizes.get(uri, 0))
    return sizes


def _size(cache: Cache) -> int:
    return to_bytes(cache.spec.model_size)


def _limit(group: LocalModelNodeGroup) -> int:
    return to_bytes(group.spec.storage_limit)
