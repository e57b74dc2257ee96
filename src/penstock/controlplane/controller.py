"""The loop that all controllers share: take a key, reconcile, and see to it that it is called again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from penstock.contracts.controller import Controller, Key
from penstock.controlplane.informer import InformerCache, Listener, objects_of
from penstock.controlplane.workqueue import WorkQueue
from penstock.kit.errors import Conflict, PlatformError
from penstock.resources.meta import Resource

WORKERS = 4
"""Keys of one controller that are reconciled at the same time."""
RECONCILE_TIMEOUT_S = 120.0
logger = logging.getLogger(__name__)


class ControllerLoop:
    """Runs one controller over the changes of the kinds that it watches."""

    def __init__(self, controller: Controller, cache: InformerCache) -> None:
        """Subscribes; nothing runs before `run`."""
        self.controller = controller
        self.queue = WorkQueue()
        for watch in controller.watches():
            cache.watch(watch.kind, self._listener(watch.keys))

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(WORKERS):
                    group.create_task(self._work(), name=f"{self.controller.name} {number}")
        finally:
            self.queue.close()

    def _listener(self, keys: Callable[[Resource], Iterable[Key]]) -> Listener:
        def listen(before: Resource | None, after: Resource | None) -> None:
            for obj in objects_of(before, after):
                for key in keys(obj):
                    self.queue.add(key)

        return listen

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            try:
                await self._reconcile(key)
            finally:
                self.queue.done(key)

    async def _reconcile(self, key: Key) -> None:
        try:
            async with asyncio.timeout(RECONCILE_TIMEOUT_S):
                again_s = await self.controller.reconcile(key)
        except Conflict:
            self.queue.retry(key)
        except PlatformError as error:
            wait_s = self.queue.retry(key)
            logger.warning("%s %s/%s: %s; again in %.3g s", self.controller.name, *key, error, wait_s)
        except Exception:
            wait_s = self.queue.retry(key)
            logger.exception("%s %s/%s failed; again in %.3g s", self.controller.name, *key, wait_s)
        else:
            self.queue.forget(key)
            if again_s is not None:
                self.queue.add_after(key, again_s)
