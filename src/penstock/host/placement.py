"""The placement loop: binds each pending pod to the node that `decide/placement.py` chooses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch
from penstock.contracts.devices import DEVICES_ANNOTATION, GpuType
from penstock.decide.inventory import Inventory
from penstock.decide.placement import Placement, place
from penstock.decide.pod_priority import prioritised
from penstock.host.device_book import DeviceBook
from penstock.kit.clock import Clock
from penstock.kit.errors import Conflict, NotFound
from penstock.kit.timestamps import rfc3339
from penstock.resources.core import Node, PriorityClass
from penstock.resources.meta import Condition, Resource
from penstock.resources.pod import Pod

ALL = Key("", "pending pods")
"""There is one queue of pending pods, so that two pods never take the same room."""


class PlacementController:
    """Highest priority first, then oldest first; what does not fit now is tried again whenever nodes or pods change."""

    name = "placement"

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        gpu_types: Sequence[GpuType] = (),
    ) -> None:
        """See `contracts/controller.py`."""
        self._book = DeviceBook(cache, gpu_types)
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock

    def watches(self) -> tuple[Watch, ...]:
        """Pods, nodes with their devices, claims and priorities: each may let a pending pod go ahead."""
        return (Watch(Pod, _all), Watch(Node, _all), Watch(PriorityClass, _all), *self._book.watches(_all))

    async def reconcile(self, key: Key) -> float | None:
        """Place what can be placed. Reads pods afresh: the cache may lag behind our own bindings."""
        if not any(map(is_pending, self._cache.list(Pod))):
            return None
        pods = (await self._cluster.list(Pod)).items
        bound = [pod for pod in pods if pod.spec.node_name and not _ended(pod)]
        stock = self._book.stock(bound)
        for pod in sorted(filter(is_pending, pods), key=self._turn):
            placement = self._placed(pod, stock)
            if placement.node:
                if await self._bind(pod, placement):
                    stock = stock.with_(pod, placement.node, placement.shares)
            else:
                await self._refuse(pod, placement)
                if pod.status.nominated_node_name:  # room is being made for it, and not for those behind it
                    stock = stock.with_(pod, pod.status.nominated_node_name)
        return None

    def _placed(self, pod: Pod, stock: Inventory) -> Placement:
        requests = self._book.requests(pod)
        if isinstance(requests, str):
            return Placement("", requests)
        return place(self._book.without_classes(pod) if requests else pod, stock, requests)

    def _turn(self, pod: Pod) -> tuple[int, str, str]:
        priority = prioritised(pod, self._cache.list(PriorityClass)).spec.priority or 0
        return -priority, pod.metadata.creation_timestamp or "", pod.metadata.name

    async def _bind(self, pod: Pod, placement: Placement) -> bool:
        meta = pod.metadata
        shares = msgspec.json.encode(placement.shares).decode() if placement.shares else None
        patch = {
            "metadata": {
                "resourceVersion": meta.resource_version,
                "annotations": {DEVICES_ANNOTATION: shares},
            },
            "spec": {"nodeName": placement.node},
        }
        try:
            await self._cluster.patch(Pod, meta.name, meta.namespace, patch)
        except (Conflict, NotFound):
            return False  # it changed or went meanwhile: its change brings us back
        where = (
            f"Successfully assigned {meta.namespace}/{meta.name} to {placement.node} ({placement.message})"
        )
        self._recorder.event(pod, "Normal", "Scheduled", where)
        return True

    async def _refuse(self, pod: Pod, placement: Placement) -> None:
        message = f"{placement.message} {placement.hint}".strip()
        known = next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
        if known is not None and known.message == message:
            return
        condition = Condition(
            type="PodScheduled",
            status="False",
            reason="Unschedulable",
            message=message,
            last_transition_time=rfc3339(self._clock.now()),
        )
        others = tuple(c for c in pod.status.conditions if c.type != "PodScheduled")
        status = msgspec.structs.replace(pod.status, phase="Pending", conditions=(*others, condition))
        try:
            await self._cluster.replace(msgspec.structs.replace(pod, status=status), subresource="status")
        except (Conflict, NotFound):
            return
        self._recorder.event(pod, "Warning", "FailedScheduling", message)


def is_pending(pod: Pod) -> bool:
    """Whether the pod waits for a node."""
    return (
        not pod.spec.node_name
        and pod.metadata.deletion_timestamp is None
        and not pod.spec.scheduling_gates
        and not _ended(pod)
    )


def _ended(pod: Pod) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")


def _all(obj: Resource) -> Iterable[Key]:
    return (ALL,)
