"""Looks after the checkpoints of running pods: verifies each as it appears, and lets a pod that was told to give way go once it has saved."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key
from penstock.decide.checkpoint import Checkpoint, last_verified
from penstock.decide.replica_set import is_ended
from penstock.host.kubelet.checkpoints import CheckpointReader, folder_of
from penstock.host.kubelet.layout import Layout
from penstock.kit.errors import NotFound
from penstock.resources.checkpoint import SAVED, notice_of
from penstock.resources.pod import Pod

LOOK_EVERY_S = 5.0
LOOK_AGAIN_S = 0.25
"""At a pod that was told to give way."""
LAST_GRACE_S = 1
"""What a pod that has saved is left to end by itself."""


class CheckpointController:
    """Writes the last verified checkpoint of each pod as its annotation; a broken one is reported and does not count."""

    name = "checkpoints"

    def __init__(self, cluster: Cluster, cache: Cache, recorder: Recorder, *, layout: Layout) -> None:
        """See `contracts/controller.py`."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._layout = layout
        self._reader = CheckpointReader()

    def watches(self) -> tuple[Watch, ...]:
        """Pods."""
        return (Watch(Pod, own_key),)

    async def reconcile(self, key: Key) -> float | None:
        """Look at one pod's folder."""
        pod = self._cache.get(Pod, key.name, key.namespace)
        if pod is None or not pod.spec.node_name or not pod.status.start_time or is_ended(pod):
            return None
        folder = folder_of(pod, self._layout)
        if folder is None:
            return None
        notice = notice_of(pod.metadata)
        again_s = LOOK_EVERY_S if notice is None else LOOK_AGAIN_S
        found = await asyncio.to_thread(self._reader.read, folder)
        if not isinstance(found, Checkpoint):
            if last_verified(pod) is not None:
                self._recorder.event(pod, "Warning", "CheckpointBroken", found)
            return again_s
        if found.instead_of:
            self._recorder.event(
                pod, "Warning", "CheckpointBroken", f"{found.instead_of}; step {found.step} counts"
            )
        if found != last_verified(pod):
            await self._write(pod, found)
        left_s = pod.metadata.deletion_grace_period_seconds or 0
        if notice is not None and found.saved_at >= notice.at and left_s > LAST_GRACE_S:
            self._recorder.event(pod, "Normal", "Saved", f"Saved step {found.step} when told to give way")
            with contextlib.suppress(NotFound):
                await self._cluster.delete(Pod, key.name, key.namespace, grace_period_s=LAST_GRACE_S)
            return None
        return again_s

    async def _write(self, pod: Pod, found: Checkpoint) -> None:
        meta = pod.metadata
        patch = {
            "metadata": {
                "resourceVersion": meta.resource_version,
                "annotations": {SAVED: msgspec.json.encode(found).decode()},
            }
        }
        with contextlib.suppress(NotFound):
            await self._cluster.patch(Pod, meta.name, meta.namespace, patch)
