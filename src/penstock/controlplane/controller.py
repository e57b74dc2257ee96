"""The loop that all controllers share: take a key, reconcile, and see to it that it is called again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from prometheus_client import Counter, Histogram

from penstock.contracts.controller import Controller, Key, Settling
from penstock.controlplane.informer import InformerCache, Listener, objects_of
from penstock.controlplane.workqueue import WorkQueue
from penstock.kit.errors import Conflict, PlatformError
from penstock.resources.meta import Resource

WORKERS = 4
"""Keys of one controller that are reconciled at the same time."""
RECONCILE_TIMEOUT_S = 120.0
RECONCILES = Counter(
    "controller_runtime_reconcile", "Reconciles by controller and outcome.", ("controller", "result")
)
SECONDS = Histogram(
    "controller_runtime_reconcile_time_seconds", "How long a reconcile takes.", ("controller",)
)
logger = logging.getLogger(__name__)


class ControllerLoop:
    """Runs one controller over the changes of the kinds that it watches."""

    def __init__(self, controller: Controller, cache: InformerCache) -> None:
        """Subscribes; nothing runs before `run`."""
        self.controller = controller
        self.queue = WorkQueue(controller.settle_s if isinstance(controller, Settling) else 0.0)
        self._cache = cache
        self._kinds = [watch.kind for watch in controller.watches()]
        for watch in controller.watches():
            cache.watch(watch.kind, self._listener(watch.keys))

    async def run(self) -> None:
        """Work until cancelled, from when every watched kind was listed: nobody decides on half a picture."""
        await self._cache.wait_synced(self._kinds)
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"{self.controller.name} {number}")

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
                with SECONDS.labels(self.controller.name).time():
                    result = await self._reconcile(key)
                RECONCILES.labels(self.controller.name, result).inc()
            finally:
                self.queue.done(key)

    async def _reconcile(self, key: Key) -> str:
        """Once; the outcome as controller-runtime names it."""
        who = {"controller": self.controller.name, "namespace": key.namespace, "object": key.name}
        try:
            async with asyncio.timeout(RECONCILE_TIMEOUT_S):
                again_s = await self.controller.reconcile(key)
        except Conflict:
            self.queue.retry(key)
            return "requeue"
        except (PlatformError, TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            wait_s = self.queue.retry(key)
            what = str(error) or _WITHOUT_WORDS.get(type(error), type(error).__name__)
            logger.warning(
                "%s %s/%s: %s; again in %.3g s", self.controller.name, *key, what, wait_s, extra=who
            )
            return "error"
        except Exception:
            wait_s = self.queue.retry(key)
            logger.exception(
                "%s %s/%s failed; again in %.3g s", self.controller.name, *key, wait_s, extra=who
            )
            return "error"
        self.queue.forget(key)
        if again_s is None:
            return "success"
        self.queue.add_after(key, again_s)
        return "requeue_after"


_WITHOUT_WORDS = {
    TimeoutError: f"took longer than {RECONCILE_TIMEOUT_S:g} s",
    asyncio.CancelledError: "something that it waited for was cancelled",
}


def _is_cancelled() -> bool:
    """Whether this task itself is to end, rather than something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
