"""Weights in memory: tells of each start whether they were there, and keeps them there for revisions that sleep with cached weights.

While a revision has a pod its weight files are held open, so that they outlive the pod's folder. What `status.sleep.depth` of its
PodAutoscaler says is done with them when no pod is left: Cached reads them again and again, so that the system prefers to drop other
things; Gone lets them go at once; without a depth the system does as it likes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Watch, own_key
from penstock.decide.cold_start import RESIDENT, phase_of
from penstock.decide.replica_set import is_active, ready_since
from penstock.decide.revision import REVISION_LABEL
from penstock.decide.sleep import CACHED, GONE
from penstock.decide.storage import VOLUME
from penstock.host.kubelet.layout import Layout, PodFolder, segment
from penstock.kit import page_cache
from penstock.kit.errors import NotFound
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler

AGAIN_S = 30.0
LEAST_BYTES = 1 << 20
"""Smaller files cost no time worth keeping them for."""
MAX_FILES = 512
"""Files of one revision that are held open."""


class WeightKeeper:
    """One reconcile per revision."""

    name = "weights"

    def __init__(self, cluster: Cluster, cache: Cache, *, layout: Layout) -> None:
        """`layout` is where pods keep their volumes."""
        self._cluster = cluster
        self._cache = cache
        self._layout = layout
        self._held: dict[Key, tuple[int, ...]] = {}

    def watches(self) -> tuple[Watch, ...]:
        """PodAutoscalers, and the pods of their revisions."""
        return (Watch(PodAutoscaler, own_key), Watch(Pod, _revision_of))

    async def reconcile(self, key: Key) -> float | None:
        """Look at the starts, hold the files, and do what the depth of sleep says."""
        labels = f"{REVISION_LABEL}={key.name}"
        pods = [pod for pod in self._cache.list(Pod, key.namespace, labels=labels) if is_active(pod)]
        for pod in pods:
            if phase_of(pod) in ("loading", "warming") and RESIDENT not in pod.metadata.annotations:
                await self._measure(pod)
        scaler = self._cache.get(PodAutoscaler, key.name, key.namespace)
        if scaler is None:
            self._close(key)
            return None
        serving = next((pod for pod in pods if ready_since(pod) is not None), None)
        if serving is not None and key not in self._held:
            self._held[key] = await asyncio.to_thread(_opened, self._folder(serving))
        depth = scaler.status.sleep.depth if scaler.status.sleep is not None else ""
        if pods or key not in self._held:
            return None
        return await self._rest(key, depth)

    async def _rest(self, key: Key, depth: str) -> float | None:
        """No pod is left."""
        if depth == CACHED:
            await asyncio.to_thread(_each, page_cache.bring, self._held[key])
            return AGAIN_S
        if depth == GONE:
            await asyncio.to_thread(_each, page_cache.let_go, self._held[key])
        self._close(key)
        return None

    async def _measure(self, pod: Pod) -> None:
        share = await asyncio.to_thread(_resident, self._folder(pod))
        if share is None:
            return
        patch = {"metadata": {"annotations": {RESIDENT: f"{share:.2f}"}}}
        try:
            await self._cluster.patch(Pod, pod.metadata.name, pod.metadata.namespace, patch)
        except NotFound:
            return

    def _folder(self, pod: Pod) -> PodFolder:
        return self._layout.pod(pod.spec.node_name, pod.metadata.uid)

    def _close(self, key: Key) -> None:
        for fd in self._held.pop(key, ()):
            os.close(fd)

    def close(self) -> None:
        """Let go of every file."""
        for key in tuple(self._held):
            self._close(key)


def _revision_of(pod: Resource) -> Iterable[Key]:
    revision = pod.metadata.labels.get(REVISION_LABEL)
    return (Key(pod.metadata.namespace, revision),) if revision else ()


def _weights(folder: PodFolder) -> Iterator[Path]:
    """The large files of the pod's models, largest first; links are followed."""
    root = folder.volumes / segment(VOLUME)
    sizes = {path: path.stat().st_size for path in root.rglob("*") if path.is_file()} if root.is_dir() else {}
    large = sorted((path for path in sizes if sizes[path] >= LEAST_BYTES), key=lambda path: -sizes[path])
    return iter(large[:MAX_FILES])


def _opened(folder: PodFolder) -> tuple[int, ...]:
    fds = []
    for path in _weights(folder):
        try:
            fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            continue  # it went meanwhile, or is not ours to read: then it is not kept
    return tuple(fds)


def _resident(folder: PodFolder) -> float | None:
    """The share over all files, by their bytes; None where nobody can tell."""
    held, total = 0.0, 0
    fds = _opened(folder)
    try:
        for fd in fds:
            share = page_cache.resident_share(fd)
            if share is None:
                return None
            size = os.fstat(fd).st_size
            held, total = held + share * size, total + size
    finally:
        for fd in fds:
            os.close(fd)
    return held / total if total else None


def _each(act: Callable[[int], None], fds: Iterable[int]) -> None:
    for fd in fds:
        act(fd)
