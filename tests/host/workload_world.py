"""A small world under virtual time: a cluster in memory, the workload controllers, and a kubelet that only pretends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import looptime
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


MIN_WAIT_S = 0.001  # the rest of a subtraction of floats would be a wait that virtual time cannot make


class PretendedKubelet:
    """Pods get ready after `start_s`, end with `exit_code` after `run_s` if given, and take `stop_s` to go.

    A pod labelled `broken` never gets ready.
    """

    name = "pretended kubelet"

    def __init__(self, world: World) -> None:
        self._world = world
        self.start_s = 5.0
        self.stop_s = 2.0
        self.run_s: float | None = None
        self.exit_code: Callable[[Pod], int] = lambda pod: 0
        self._seen: dict[str, float] = {}
        self._ending: dict[str, float] = {}

    def watches(self) -> tuple[Watch, ...]:
        return (Watch(Pod, own_key),)

    async def reconcile(self, key: Key) -> float | None:
        pod = self._world.cache.get(Pod, key.name, key.namespace)
        if pod is None:
            return None
        now, uid = self._world.clock.monotonic(), pod.metadata.uid
        born = self._seen.setdefault(uid, now)
        if not pod.spec.node_name:
            await self._world.cluster.patch(Pod, key.name, key.namespace, {"spec": {"nodeName": "n"}})
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
    """Use within `async with`, on a virtual loop."""

    def __init__(self, *make: Callable[[World], Controller]) -> None:
        """`make` adds controllers to those of deployments, replica sets and garbage."""
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
        self._manager = Manager(controllers, cache=self.cache, recorder=self.recorder)

    async def __aenter__(self) -> World:
        self._task = asyncio.ensure_future(self._manager.run(self._stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._task

    async def pods(self, selector: str = "") -> list[Pod]:
        return list((await self.cluster.list(Pod, "default", labels=selector)).items)

    async def replica_sets(self) -> list[ReplicaSet]:
        return list((await self.cluster.list(ReplicaSet, "default")).items)

    async def deployment(self, name: str = "web") -> Deployment:
        return await self.cluster.get(Deployment, name, "default")

    async def patch(self, kind: type[R], name: str, patch: dict[str, Any]) -> R:
        return await self.cluster.patch(kind, name, "default", patch)

    async def events(self) -> list[str]:
        await asyncio.sleep(1)
        return [f"{event.reason}: {event.message}" for event in (await self.cluster.list(Event)).items]


def is_ready(pod: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def is_active(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is None and pod.status.phase not in ("Succeeded", "Failed")


def condition(obj: Any, type_: str) -> Condition | None:
    return next((c for c in obj.status.conditions if c.type == type_), None)


def on_virtual_time(main: Callable[[], Any]) -> Any:
    """For hypothesis, whose examples cannot be coroutines."""
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        return runner.run(main())
