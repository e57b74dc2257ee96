"""The kubelet: makes the pods that are bound to this host's nodes run, as processes.

A controller over Pods. For every pod it keeps one worker; what it must not forget lies in the pod's folder, so a kubelet that
starts anew takes up what still runs, and ends what no longer belongs to a pod.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key
from penstock.contracts.devices import GpuType
from penstock.host.kubelet.addresses import Addresses
from penstock.host.kubelet.attempts import attempts
from penstock.host.kubelet.context import Tools
from penstock.host.kubelet.devices import known_gpus
from penstock.host.kubelet.layout import Layout, PodFolder
from penstock.host.kubelet.limits import find_limits
from penstock.host.kubelet.worker import Ending, PodWorker
from penstock.kit.clock import Clock
from penstock.kit.quantity import parse_quantity
from penstock.resources.core import Node
from penstock.resources.devices import ResourceSlice
from penstock.resources.pod import Pod

log = logging.getLogger(__name__)
VANISHED_GRACE_S = 5.0
FORCE_AFTER_S = 10.0


class Kubelet:
    """Runs pods. `nodes`: the names of the nodes that this host stands for; `home`: the data folder; `at_once`: see `Tools`; `gpu_types`: what products are."""

    name = "kubelet"

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        home: Path,
        nodes: frozenset[str],
        at_once: Callable[[Sequence[str]], Sequence[str] | None] = lambda argv: None,
        gpu_types: Sequence[GpuType] = (),
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._nodes = nodes
        layout = Layout(home)
        gpus = known_gpus(cache, gpu_types)
        self._tools = Tools(
            cluster, recorder, clock, layout, find_limits(home), self._node_facts, at_once, gpus
        )
        self._addresses = Addresses(home)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._by_key: dict[Key, str] = {}
        self._stopping = False
        self._swept = asyncio.Lock()
        self._is_swept = False

    def watches(self) -> tuple[Watch, ...]:
        """Pods; nodes and slices only so that the cache knows what they can allocate and which devices they have."""
        return (Watch(Pod, own_key), Watch(Node, lambda _: ()), Watch(ResourceSlice, lambda _: ()))

    async def start(self) -> None:
        """End the processes of pods that are no longer in the cluster. Call it once, before or while reconciling."""
        async with self._swept:
            if self._is_swept:
                return
            pods = (await self._cluster.list(Pod)).items
            known = {pod.metadata.uid for pod in pods if pod.spec.node_name in self._nodes}
            layout = self._tools.layout
            folders = [folder for node in layout.nodes() for folder in layout.pods(node)]
            for folder in folders:
                if record := folder.read():
                    self._addresses.reserve(record.uid, record.address)
            await asyncio.gather(*(self._reap(folder) for folder in folders if folder.path.name not in known))
            self._is_swept = True

    async def reconcile(self, key: Key) -> None:
        """Bring the worker of this pod up to date; make or end it as needed. Never waits for a process."""
        await self.start()
        pod = self._cache.get(Pod, key.name, key.namespace)
        uid = self._by_key.get(key)
        if uid and (pod is None or pod.metadata.uid != uid):
            self._by_key.pop(key)
            self._workers[uid].end(Ending("vanished", VANISHED_GRACE_S))
        if pod is None or pod.spec.node_name not in self._nodes or self._stopping:
            return
        worker = self._workers.get(pod.metadata.uid)
        if worker is None:
            worker = self._adopt(key, pod)
        worker.update(pod)

    async def stop_all(self, grace_s: float | None = None) -> None:
        """End all processes gracefully, each within its own grace or `grace_s` if that is shorter; pods stay in the cluster.

        Their status says so (reason PlatformStopped), and the next start runs them again.
        """
        self._stopping = True
        for worker in self._workers.values():
            worker.end(Ending("stopped", worker.longest_grace_s(grace_s), again=True))
        if self._tasks:
            limit_s = max(worker.longest_grace_s(grace_s) for worker in self._workers.values())
            await asyncio.wait(list(self._tasks.values()), timeout=limit_s + FORCE_AFTER_S)
        await self.close()

    async def close(self) -> None:
        """Let go of everything and leave the processes running, for another kubelet to adopt."""
        self._stopping = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _adopt(self, key: Key, pod: Pod) -> PodWorker:
        uid = pod.metadata.uid
        worker = PodWorker(self._tools, self._addresses, pod)
        self._workers[uid] = worker
        self._by_key[key] = uid
        task = asyncio.get_running_loop().create_task(worker.run(), name=f"pod {key.namespace}/{key.name}")
        self._tasks[uid] = task
        task.add_done_callback(lambda done: self._done(key, uid, done))
        return worker

    def _done(self, key: Key, uid: str, task: asyncio.Task[None]) -> None:
        self._workers.pop(uid, None)
        self._tasks.pop(uid, None)
        if self._by_key.get(key) == uid:
            del self._by_key[key]
        if not task.cancelled() and (error := task.exception()):
            log.error("the worker of pod %s/%s failed", key.namespace, key.name, exc_info=error)

    async def _reap(self, folder: PodFolder) -> None:
        names = sorted(folder.containers.iterdir()) if folder.containers.is_dir() else []
        running = [attempt for name in names for attempt in attempts(name) if attempt.is_running()]
        for attempt in running:
            attempt.terminate()
        if running:
            waits = [asyncio.ensure_future(attempt.wait()) for attempt in running]
            _, late = await asyncio.wait(waits, timeout=VANISHED_GRACE_S)
            for wait in late:
                wait.cancel()
            await asyncio.gather(*(attempt.kill() for attempt in running))
        await asyncio.to_thread(shutil.rmtree, folder.path, True)
        self._addresses.release(folder.path.name)

    def _node_facts(self, name: str) -> Mapping[str, float]:
        node = self._cache.get(Node, name)
        allocatable = node.status.allocatable if node else {}
        return {
            key: float(parse_quantity(allocatable[key])) for key in ("cpu", "memory") if key in allocatable
        }
