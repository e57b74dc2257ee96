"""Runs controllers over one cache, each for itself, and stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from penstock.contracts.controller import Controller
from penstock.controlplane.controller import ControllerLoop
from penstock.controlplane.events import EventRecorder
from penstock.controlplane.informer import InformerCache
from penstock.kit.tasks import end, supervise

NOTHING: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = MappingProxyType({})


class Manager:
    """One manager runs the controllers of both planes of a machine; they share its cache and recorder."""

    def __init__(
        self,
        controllers: Sequence[Controller],
        *,
        cache: InformerCache,
        recorder: EventRecorder,
        beside: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = NOTHING,
    ) -> None:
        """The controllers were made with this cache and this recorder; `beside` are further loops, by name, that read the cache."""
        self._cache = cache
        self._recorder = recorder
        self._loops = [ControllerLoop(controller, cache) for controller in controllers]
        self._beside = beside

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. A controller starts once its kinds are listed, and starts anew when it dies; the others go on.

        On the way out the controllers end first, then the cache; Events that wait are written.
        """
        base = [
            asyncio.create_task(self._cache.run(), name="cache"),
            asyncio.create_task(supervise("events", self._recorder.run), name="events"),
        ]
        loops = [
            asyncio.create_task(supervise(loop.controller.name, loop.run), name=loop.controller.name)
            for loop in self._loops
        ]
        loops += [asyncio.create_task(supervise(name, run), name=name) for name, run in self._beside.items()]
        try:
            await stop.wait()
        finally:
            await end(loops)
            for loop in self._loops:
                loop.queue.close()
            await end(base)
            await self._recorder.flush()
