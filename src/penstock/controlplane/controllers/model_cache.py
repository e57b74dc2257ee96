"""Model caches: which node shall hold which model, who is told no, and how many copies there are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch
from penstock.decide.caching import Cache as ModelCache
from penstock.decide.caching import CachePlan, Known, Refusal, model_key, plan_caches
from penstock.kit.clock import Clock
from penstock.kit.errors import AlreadyExists, NotFound
from penstock.resources.caching import (
    LocalModelCache,
    LocalModelCacheStatus,
    LocalModelInfo,
    LocalModelNamespaceCache,
    LocalModelNode,
    LocalModelNodeGroup,
    LocalModelNodeSpec,
)
from penstock.resources.core import Node
from penstock.resources.meta import ObjectMeta, Resource
from penstock.resources.serving import InferenceService

ALL = Key("", "model caches")
"""Caches share the room of their groups, so they are looked at together."""
FINALIZERS: dict[type[ModelCache], str] = {
    LocalModelCache: "localmodel.kserve.io/finalizer",
    LocalModelNamespaceCache: "localmodelnamespacecache.kserve.io/finalizer",
}
SETTLE_S = 0.05


class ModelCacheController:
    """Writes LocalModelNodes, and the status of caches and groups."""

    name = "model-cache"
    settle_s = SETTLE_S

    def __init__(self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock) -> None:
        """See `contracts/controller.py`."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._told: dict[tuple[str, str], str] = {}

    def watches(self) -> tuple[Watch, ...]:
        """Whatever takes part in the answer."""
        kinds = (*FINALIZERS, LocalModelNodeGroup, LocalModelNode, Node, InferenceService)
        return tuple(Watch(kind, _all) for kind in kinds)

    async def reconcile(self, key: Key) -> float | None:
        """Observe, decide, apply."""
        known = self._observe()
        plan = plan_caches(known)
        await self._apply_nodes(known, plan)
        for cache in known.caches:
            if cache.metadata.deletion_timestamp is None:
                await self._keep(cache, plan.caches[model_key(cache)], plan.refusals)
            else:
                await self._let_go(cache)
        for group in known.groups:
            await self._tell_group(group, plan)
        return None

    def _observe(self) -> Known:
        return Known(
            caches=tuple(cache for kind in FINALIZERS for cache in self._cache.list(kind)),
            groups=self._cache.list(LocalModelNodeGroup),
            nodes=self._cache.list(Node),
            holds=self._cache.list(LocalModelNode),
            services=self._cache.list(InferenceService),
        )

    async def _apply_nodes(self, known: Known, plan: CachePlan) -> None:
        nodes = {node.metadata.name for node in known.nodes}
        held = {hold.metadata.name: hold for hold in known.holds}
        for name, infos in plan.nodes.items():
            if name not in nodes:
                with contextlib.suppress(NotFound):
                    await self._cluster.delete(LocalModelNode, name)
            elif name not in held:
                await self._create(name, infos)
            elif held[name].spec.local_models != infos:
                models = msgspec.to_builtins(infos)
                await self._cluster.patch(LocalModelNode, name, "", {"spec": {"localModels": models}})

    async def _create(self, name: str, infos: tuple[LocalModelInfo, ...]) -> None:
        if not infos:
            return
        node = LocalModelNode(metadata=ObjectMeta(name=name), spec=LocalModelNodeSpec(local_models=infos))
        with contextlib.suppress(AlreadyExists):
            await self._cluster.create(node)

    async def _keep(
        self, cache: ModelCache, status: LocalModelCacheStatus, refusals: tuple[Refusal, ...]
    ) -> None:
        """Its finalizer, its status, and Events about what changed."""
        kind, meta, finalizer = type(cache), cache.metadata, FINALIZERS[type(cache)]
        if finalizer not in meta.finalizers:
            patch = {"metadata": {"finalizers": [*meta.finalizers, finalizer]}}
            cache = await self._cluster.patch(kind, meta.name, meta.namespace, patch)
        for refusal in refusals:
            pair = refusal.cache, refusal.group
            if refusal.cache == model_key(cache) and self._told.get(pair) != refusal.message:
                self._told[pair] = refusal.message
                self._recorder.event(cache, "Warning", "NodeGroupRefused", refusal.message)
        if status == cache.status:
            return
        await self._cluster.replace(msgspec.structs.replace(cache, status=status), subresource="status")
        copies, before = status.copies, cache.status.copies
        if (
            copies
            and copies.available == copies.total
            and (before is None or before.available < copies.total)
        ):
            self._recorder.event(cache, "Normal", "ModelCached", f"{copies.total} nodes hold the model")

    async def _let_go(self, cache: ModelCache) -> None:
        """No node is told of it any more: what its nodes do about that needs it no longer."""
        meta, finalizer = cache.metadata, FINALIZERS[type(cache)]
        if finalizer in meta.finalizers:
            patch = {"metadata": {"finalizers": [one for one in meta.finalizers if one != finalizer]}}
            with contextlib.suppress(NotFound):
                await self._cluster.patch(type(cache), meta.name, meta.namespace, patch)
        self._told = {pair: said for pair, said in self._told.items() if pair[0] != model_key(cache)}

    async def _tell_group(self, group: LocalModelNodeGroup, plan: CachePlan) -> None:
        """Its schema has a status, but no subresource."""
        status = plan.groups[group.metadata.name]
        if status != group.status:
            patch = {"status": msgspec.to_builtins(status)}
            await self._cluster.patch(LocalModelNodeGroup, group.metadata.name, "", patch)


def _all(obj: Resource) -> Iterable[Key]:
    return (ALL,)
