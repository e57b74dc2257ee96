"""A small world on one event loop: a cluster in memory, the workload controllers, and a kubelet that only pretends.

For tests of controllers, best on a virtual loop: store, cache, manager and controllers are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from msgspec import structs

from penstock.contracts.controller import Controller, Key, Watch, own_key
from penstock.controlplane.events import EventRecorder
from penstock.controlplane.informer import InformerCache
from penstock.controlplane.manager import Manager
from penstock.host.deployments import DeploymentController
from penstock.host.garbage import GarbageCollector
from penstock.host.replicasets import ReplicaSetController
from penstock.kit.errors import NotFound
from penstock.kit.timestamps import rfc3339
from penstock.resources.core import Event
from penstock.resources.meta import Condition, Resource
from penstock.resources.pod import ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus
from penstock.resources.workload import Deployment, ReplicaSet
from penstock.testing.clock import LoopClock
from penstock.testing.factories import memory_cluster

R = TypeVar("R", bound=Resource)
MIN_WAIT_S = 0.001
"""The rest of a subtraction of floats would be a wait that virtual time cannot make."""


class PretendedKubelet:
    """A controller by which pods get ready after `start_s`, end after `run_s` unless None, and take `stop_s` to go.

    A pod labelled `broken` never gets ready; `exit_code` says how one that ends does. All are answered at 127.0.0.9. It puts pods on
    a node `n` itself, unless `places` is False.
    """

    name = "pretended kubelet"

    def __init__(self, world: World) -> None:
        self._world = world
        self.start_s = 5.0
        self.stop_s = 2.0
        self.run_s: float | None = None
        self.places = True
        self.exit_code: Callable[[Pod], int] = lambda pod: 0
        self._seen: dict[str, float] = {}
        self._ending: dict[str, float] = {}

    def watches(self) -> tuple[Watch, ...]:
        """Every pod."""
        return (Watch(Pod, own_key),)

    async def reconcile(self, key: Key) -> float | None:
        """Place the pod, then take it on as far as its age says; answers when to look again (s)."""
        pod = self._world.cache.get(Pod, key.name, key.namespace)
        if pod is None:
            return None
        now, uid = self._world.clock.monotonic(), pod.metadata.uid
        born = self._seen.setdefault(uid, now)
        if not pod.spec.node_name:
            if self.places:
                await self._world.cluster.patch(Pod, key.name, key.namespace, {"spec": {"nodeName": "n"}})
            elif pod.metadata.deletion_timestamp is not None:
                return await self._stop(pod, now)
            self._seen.pop(uid)
            return None
        if pod.metadata.deletion_timestamp is not None:
            return await self._stop(pod, now)
        if pod.status.phase in ("Succeeded", "Failed") or "broken" in pod.metadata.labels:
            return None
        if now < born + self.start_s:
            return max(MIN_WAIT_S, born + self.start_s - now)
        if not is_ready(pod):
            await self._write(pod, "Running", ready=True)
        if self.run_s is None:
            return None
        if now < born + self.start_s + self.run_s:
            return max(MIN_WAIT_S, born + self.start_s + self.run_s - now)
        code = self.exit_code(pod)
        await self._write(pod, "Failed" if code else "Succeeded", ready=False, code=code)
        return None

    async def _stop(self, pod: Pod, now: float) -> float | None:
        began = self._ending.setdefault(pod.metadata.uid, now)
        if now < began + self.stop_s:
            return max(MIN_WAIT_S, began + self.stop_s - now)
        with contextlib.suppress(NotFound):
            await self._world.cluster.delete(Pod, pod.metadata.name, pod.metadata.namespace, grace_period_s=0)
        return None

    async def _write(self, pod: Pod, phase: str, *, ready: bool, code: int | None = None) -> None:
        moment = rfc3339(self._world.clock.now())
        ended = ContainerStateTerminated(exit_code=code, finished_at=moment) if code is not None else None
        status = PodStatus(
            phase=phase,
            pod_ip="127.0.0.9",
            start_time=pod.metadata.creation_timestamp,
            conditions=(
                Condition(type="Ready", status="True" if ready else "False", last_transition_time=moment),
            ),
            container_statuses=(
                ContainerStatus(
                    name="main",
                    ready=ready,
                    restart_count=0,
                    image="example",
                    state=ContainerState(terminated=ended),
                ),
            ),
        )
        await self._world.cluster.replace(structs.replace(pod, status=status), subresource="status")


class World:
    """A cluster whose controllers run within `async with`. `cluster`, `cache`, `recorder`, `clock` and `kubelet` are open."""

    def __init__(self, *make: Callable[[World], Controller]) -> None:
        """`make` adds controllers to those of deployments, replica sets and garbage; each is given the world."""
        self.clock = LoopClock()
        self.cluster = memory_cluster(clock=self.clock)
        self.cache = InformerCache(self.cluster, self.clock)
        self.recorder = EventRecorder(self.cluster, self.clock)
        self.kubelet = PretendedKubelet(self)
        self._stop = asyncio.Event()
        parts = (self.cluster, self.cache, self.recorder.named("test"), self.clock)
        controllers: list[Controller] = [
            DeploymentController(*parts),
            ReplicaSetController(*parts),
            GarbageCollector(self.cluster.objects),
            self.kubelet,
            *(one(self) for one in make),
        ]
        self._manager = Manager(controllers, cache=self.cache, recorder=self.recorder, beside=self.beside())

    def beside(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Further loops, by name; for worlds that have more than controllers."""
        return {}

    async def __aenter__(self) -> World:
        self._task = asyncio.ensure_future(self._manager.run(self._stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._task

    async def pods(self, selector: str = "") -> list[Pod]:
        """Those of the namespace `default`, all or those that a label selector takes."""
        return list((await self.cluster.list(Pod, "default", labels=selector)).items)

    async def replica_sets(self) -> list[ReplicaSet]:
        """Those of the namespace `default`."""
        return list((await self.cluster.list(ReplicaSet, "default")).items)

    async def deployment(self, name: str = "web") -> Deployment:
        """One of the namespace `default`; raises NotFound."""
        return await self.cluster.get(Deployment, name, "default")

    async def patch(self, kind: type[R], name: str, patch: dict[str, Any]) -> R:
        """Merge into an object of the namespace `default`; raises NotFound."""
        return await self.cluster.patch(kind, name, "default", patch)

    async def events(self) -> list[str]:
        """`REASON: MESSAGE` of every Event, once those of this moment are written."""
        await asyncio.sleep(1)
        return [f"{event.reason}: {event.message}" for event in (await self.cluster.list(Event)).items]


def is_ready(pod: Pod) -> bool:
    """Whether its condition Ready is True."""
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def is_active(pod: Pod) -> bool:
    """Whether it neither ended nor is to go."""
    return pod.metadata.deletion_timestamp is None and pod.status.phase not in ("Succeeded", "Failed")


def condition(obj: Any, type_: str) -> Condition | None:
    """The object's condition of this type, if its status has one."""
    return next((c for c in obj.status.conditions if c.type == type_), None)
