"""Pods that wait for their model's cache: told what they wait for, and let go where it is."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, key_of, own_key
from penstock.contracts.model_bindings import Bound, bound_to
from penstock.contracts.node_caches import downloads_of
from penstock.decide.cache_gate import Gate, gate_of, is_gated, opened, together
from penstock.decide.caching import Cache as ModelCache
from penstock.decide.caching import is_ready, model_key, nodes_of
from penstock.kit.clock import Clock
from penstock.kit.timestamps import rfc3339
from penstock.resources.caching import (
    LocalModelCache,
    LocalModelNamespaceCache,
    LocalModelNode,
    LocalModelNodeGroup,
)
from penstock.resources.conditions import replaced
from penstock.resources.core import Node
from penstock.resources.meta import Condition, Resource
from penstock.resources.pod import Pod

SETTLE_S = 0.05
WAITING = "SchedulingGated"


class CacheGateController:
    """One key per pod that waits."""

    name = "cache-gate"
    settle_s = SETTLE_S

    def __init__(self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock) -> None:
        """See `contracts/controller.py`."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock

    def watches(self) -> tuple[Watch, ...]:
        """Pods; and what may open their gate."""
        return (
            Watch(Pod, own_key),
            *(Watch(kind, self._waiting) for kind in (LocalModelCache, LocalModelNamespaceCache)),
            *(Watch(kind, self._waiting) for kind in (LocalModelNode, LocalModelNodeGroup, Node)),
        )

    async def reconcile(self, key: Key) -> float | None:
        """Open the gate, or say why not."""
        pod = self._cache.get(Pod, key.name, key.namespace)
        if pod is None or not is_gated(pod.spec) or pod.metadata.deletion_timestamp is not None:
            return None
        gate = self._gate(pod)
        if not gate.nodes:
            await self._say(pod, gate.message)
            return None
        meta = pod.metadata
        patch = {"metadata": {"resourceVersion": meta.resource_version}, "spec": opened(pod, gate.nodes)}
        await self._cluster.patch(Pod, meta.name, meta.namespace, patch)
        self._recorder.event(pod, "Normal", "ModelCacheReady", gate.message)
        return None

    def _gate(self, pod: Pod) -> Gate:
        bounds = bound_to(pod.metadata.annotations)
        if not bounds:
            names = (node.metadata.name for node in self._cache.list(Node) if is_ready(node))
            return gate_of(None, "", names, {})
        return together(self._gate_of(bound) for bound in bounds)

    def _gate_of(self, bound: Bound) -> Gate:
        found: ModelCache | None = (
            self._cache.get(LocalModelNamespaceCache, bound.cache, bound.namespace)
            if bound.namespace
            else self._cache.get(LocalModelCache, bound.cache)
        )
        group = self._cache.get(LocalModelNodeGroup, bound.group)
        members = nodes_of(group, self._cache.list(Node)) if group is not None else ()
        if group is None:
            found, members = None, self._cache.list(Node)
        names = tuple(node.metadata.name for node in members if is_ready(node))
        return gate_of(found, bound.group, names, self._progress(found, names))

    def _progress(self, cache: ModelCache | None, nodes: tuple[str, ...]) -> dict[str, str]:
        told = {}
        for node in nodes if cache is not None else ():
            hold = self._cache.get(LocalModelNode, node)
            known = downloads_of(hold.metadata.annotations) if hold is not None else {}
            if cache is not None and model_key(cache) in known:
                told[node] = known[model_key(cache)].told
        return told

    async def _say(self, pod: Pod, message: str) -> None:
        known = next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
        if known is not None and known.message == message:
            return
        condition = Condition(
            type="PodScheduled",
            status="False",
            reason=WAITING,
            message=message,
            last_transition_time=rfc3339(self._clock.now()),
        )
        conditions = replaced(pod.status.conditions, condition)
        status = msgspec.structs.replace(pod.status, phase="Pending", conditions=conditions)
        await self._cluster.replace(msgspec.structs.replace(pod, status=status), subresource="status")
        if known is None or known.reason != WAITING:
            self._recorder.event(pod, "Normal", "WaitingForModelCache", message)

    def _waiting(self, changed: Resource) -> Iterable[Key]:
        """Every pod at the gate: there are few, for a short time."""
        return tuple(key_of(pod) for pod in self._cache.list(Pod) if is_gated(pod.spec))
