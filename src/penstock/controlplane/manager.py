"""Runs controllers over one cache, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from penstock.contracts.controller import Controller
from penstock.controlplane.controller import ControllerLoop
from penstock.controlplane.events import EventRecorder
from penstock.controlplane.informer import InformerCache


class Manager:
    """One manager runs the controllers of both planes of a machine; they share its cache and recorder."""

    def __init__(
        self, controllers: Sequence[Controller], *, cache: InformerCache, recorder: EventRecorder
    ) -> None:
        """The controllers were made with this cache and this recorder."""
        self._cache = cache
        self._recorder = recorder
        self._loops = [ControllerLoop(controller, cache) for controller in controllers]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`: the cache first, then the controllers; on the way out the controllers first."""
        cache = asyncio.create_task(self._cache.run(), name="cache")
        recorder = asyncio.create_task(self._recorder.run(), name="events")
        await self._cache.wait_synced()
        loops = [asyncio.create_task(loop.run(), name=loop.controller.name) for loop in self._loops]
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait(
                [*loops, cache, recorder, stopping], return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            for task in (*loops, stopping, cache, recorder):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, BaseExceptionGroup):
                    await task
            await self._recorder.flush()
