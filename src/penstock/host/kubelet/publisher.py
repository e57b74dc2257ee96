"""Writes one pod's status: at once when something changed, folded together while a write is under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgspec import structs

from penstock.contracts.cluster import Cluster
from penstock.kit.clock import Clock
from penstock.kit.errors import Conflict, NotFound, PlatformError
from penstock.resources.pod import Pod, PodStatus

log = logging.getLogger(__name__)
RETRY_S = 0.5
TRIES = 5


class Publisher:
    """Keeps `status` of one pod in the cluster equal to what `compute` says of it."""

    def __init__(self, cluster: Cluster, clock: Clock, pod: Pod, compute: Callable[[Pod], PodStatus]) -> None:
        self._cluster = cluster
        self._clock = clock
        self._pod = pod
        self._compute = compute
        self._dirty = asyncio.Event()
        self._written: tuple[PodStatus, PodStatus] | None = None
        self._writing = asyncio.Lock()

    def changed(self) -> None:
        """Something that `compute` looks at is different."""
        self._dirty.set()

    def seen(self, pod: Pod) -> None:
        """A version of the pod came in; somebody else's change of its status is put right."""
        self._pod = pod
        self._dirty.set()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            if not await self._write():
                self._dirty.set()
                await self._clock.sleep(RETRY_S)

    async def flush(self) -> None:
        """Write what there is, now; gives up after a few tries, since the next start says it again."""
        self._dirty.clear()
        for _ in range(TRIES):
            if await self._write():
                return
            await self._clock.sleep(RETRY_S)

    async def _write(self) -> bool:
        async with self._writing:
            try:
                for _ in range(TRIES):
                    status = self._compute(self._pod)
                    if status == self._pod.status or (status, self._pod.status) == self._written:
                        return True  # the second: as we wrote it, though stored in another form
                    try:
                        wanted = structs.replace(self._pod, status=status)
                        self._pod = await self._cluster.replace(wanted, subresource="status")
                        self._written = (status, self._pod.status)
                        return True
                    except Conflict:
                        meta = self._pod.metadata
                        current = await self._cluster.get(Pod, meta.name, meta.namespace)
                        if current.metadata.uid != meta.uid:
                            return True
                        self._pod = current
            except NotFound:
                return True
            except PlatformError as error:
                log.warning("status of pod %s is not written yet: %s", self._pod.metadata.name, error)
            return False
