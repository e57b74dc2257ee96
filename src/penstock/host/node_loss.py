"""Takes pods off nodes that have gone: silent for too long, or deleted. Whoever owns them makes others, which are placed elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key
from penstock.decide.node_loss import SILENCE_S, leaves_at, silent_at, tainted, untainted
from penstock.decide.replica_set import is_ended
from penstock.kit.clock import Clock
from penstock.kit.errors import Conflict, NotFound
from penstock.kit.timestamps import rfc3339
from penstock.resources.core import Node
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod

MOMENT_S = 0.5
"""Times in objects are whole seconds: a moment later is surely after."""


class NodeLossController:
    """One reconcile per node, also for one that pods name and that is not there."""

    name = "node-loss"

    def __init__(self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock) -> None:
        """See `contracts/controller.py`."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._missing_since: dict[str, float] = {}

    def watches(self) -> tuple[Watch, ...]:
        """Nodes, and the pods on them."""
        return (Watch(Node, own_key), Watch(Pod, _node_of))

    async def reconcile(self, key: Key) -> float | None:
        """Mark it, or take the mark off; end the pods whose time has come."""
        node = self._cache.get(Node, key.name)
        with contextlib.suppress(Conflict, NotFound):  # what changed or went meanwhile brings us back
            if node is None:
                return await self._without(key.name)
            self._missing_since.pop(key.name, None)
            return await self._with(node)
        return None

    async def _with(self, node: Node) -> float | None:
        at, now = silent_at(node), self._clock.now()
        if at is None:
            return None
        if now < at:
            if (taints := untainted(node)) != node.spec.taints:
                await self._write(node, taints)
                self._recorder.event(node, "Normal", "NodeReachable", "The node is heard of again")
            return at - now + MOMENT_S
        if (taints := tainted(node, rfc3339(now))) != node.spec.taints:
            await self._write(node, taints)
            await self._tell(node)
            return None  # its change brings us back
        waits = []
        for pod in self._pods(node.metadata.name):
            leaves = leaves_at(pod, node)
            if leaves is not None and leaves <= now:
                await self._end(pod, f"node {node.metadata.name} has not been heard of since {_heard(node)}")
            elif leaves is not None:
                waits.append(leaves - now + MOMENT_S)
        return min(waits, default=None)

    async def _without(self, name: str) -> float | None:
        """A node that is not there may be one that is just made anew."""
        pods = self._pods(name)
        if not pods:
            self._missing_since.pop(name, None)
            return None
        now = self._clock.monotonic()
        left_s = self._missing_since.setdefault(name, now) + SILENCE_S - now
        if left_s > 0:
            return left_s
        for pod in pods:
            await self._end(pod, f"node {name} does not exist any more")
        return None

    def _pods(self, node: str) -> list[Pod]:
        return [pod for pod in self._cache.list(Pod) if pod.spec.node_name == node and not is_ended(pod)]

    async def _end(self, pod: Pod, why: str) -> None:
        """At once: nobody is left there who would say that its processes have ended."""
        with contextlib.suppress(NotFound):
            await self._cluster.delete(Pod, pod.metadata.name, pod.metadata.namespace, grace_period_s=0)
        self._recorder.event(pod, "Warning", "NodeLost", f"moved off its node: {why}")

    async def _write(self, node: Node, taints: Iterable[object]) -> None:
        patch = {
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": msgspec.to_builtins(tuple(taints))},
        }
        await self._cluster.patch(Node, node.metadata.name, "", patch)

    async def _tell(self, node: Node) -> None:
        now = rfc3339(self._clock.now())
        fresh = await self._cluster.get(Node, node.metadata.name)
        conditions = tuple(
            msgspec.structs.replace(
                one,
                status="Unknown",
                reason="NodeStatusUnknown",
                message="Kubelet stopped posting node status.",
                last_transition_time=now,
            )
            if one.type == "Ready"
            else one
            for one in fresh.status.conditions
        )
        status = msgspec.structs.replace(fresh.status, conditions=conditions)
        await self._cluster.replace(msgspec.structs.replace(fresh, status=status), subresource="status")
        told = f"The node has not been heard of since {_heard(node)}: its pods move"
        self._recorder.event(node, "Warning", "NodeNotReady", told)


def _heard(node: Node) -> str:
    beats = (one.last_heartbeat_time for one in node.status.conditions if one.type == "Ready")
    return next(beats, None) or "ever"


def _node_of(obj: Resource) -> Iterable[Key]:
    assert isinstance(obj, Pod), "the watch is on pods"
    return (Key("", obj.spec.node_name),) if obj.spec.node_name else ()
