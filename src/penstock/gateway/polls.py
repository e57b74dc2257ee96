"""Asks engines how loaded they are, by their metrics, every two seconds: what this gateway counts itself says more, but not of others' requests.

Each endpoint has its own place in the two seconds, by its name, so that all gateways ask an engine at one time and many engines at many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from penstock.contracts.scheduling import UNKNOWN, Load
from penstock.decide.engine_metrics import EngineReading, reading
from penstock.decide.saturation import seen_capacity
from penstock.kit.errors import PlatformError
from penstock.kit.hashing import DRAWS, draw
from penstock.kit.scrape import scrape

EVERY_S = 2.0
TIMEOUT_S = 1.0
AT_ONCE = 8
MAX_TEXT = 1 << 20
"""Characters of metrics that are read at once."""
MISSED = 3
"""As many times without an answer, and nothing that was said before holds."""
ROUNDED_S = 0.5
"""By how much two texts of one process may differ in when it began."""
SELDOM_S = 20.0
"""How often one is asked that did not answer so many times."""


class Polled(NamedTuple):
    """An endpoint with `metrics_port`, and the dialect that its engine's metrics are in."""

    load: Load
    dialect: str


class Polls:
    """One task for each endpoint that says where its metrics are."""

    def __init__(
        self,
        sized: Callable[[Load], None] = lambda _: None,
        restarted: Callable[[Load], None] = lambda _: None,
    ) -> None:
        """`sized` is called when an engine says for the first time, or anew, how many tokens its cache holds, or how many ranks it has.

        `restarted` is called when it began at another time than it said before.
        """
        self._sized, self._restarted = sized, restarted
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[int, tuple[Polled, asyncio.Task[None]]] = {}

    def watch(self, polled: Iterable[Polled]) -> None:
        """Ask these from now on, and no others. Loads are told apart by which object they are."""
        wanted = {id(one.load): one for one in polled if one.dialect and one.load.endpoint.metrics_port}
        for key, (known, task) in list(self._tasks.items()):
            one = wanted.get(key)
            if one is None or one.dialect != known.dialect:
                task.cancel()
                del self._tasks[key]
        for key, one in wanted.items():
            if key not in self._tasks:
                task = asyncio.create_task(self._ask(one), name=f"metrics of {one.load.endpoint.name}")
                self._tasks[key] = (one, task)

    def close(self) -> None:
        """Ask nobody any more."""
        self.watch(())

    async def _ask(self, one: Polled) -> None:
        await asyncio.sleep(draw(one.load.endpoint.name) / DRAWS * EVERY_S)
        missed, started_at = 0, UNKNOWN
        while True:
            found = await self._read(one)
            missed = 0 if found is not None else missed + 1
            if found is not None:
                if found.started_at != UNKNOWN:
                    if started_at != UNKNOWN and abs(found.started_at - started_at) > ROUNDED_S:
                        self._restarted(one.load)
                    started_at = found.started_at
                self._tell(one.load, found)
            elif missed >= MISSED:
                forget(one.load)
            await asyncio.sleep(EVERY_S if missed < MISSED else SELDOM_S)

    async def _read(self, one: Polled) -> EngineReading | None:
        endpoint = one.load.endpoint
        try:
            async with self._slots:
                text = await scrape(
                    endpoint.address, endpoint.metrics_port, endpoint.metrics_path, timeout_s=TIMEOUT_S
                )
        except PlatformError:
            return None
        return reading(text, one.dialect) if len(text) <= MAX_TEXT else None

    def _tell(self, load: Load, found: EngineReading) -> None:
        load.waiting, load.running, load.kv_use = found.waiting, found.running, found.kv_use
        load.told_in_flight = load.in_flight
        load.capacity = seen_capacity(load)
        load.adapters, load.adapter_slots = found.adapters, found.adapter_slots
        kv_tokens, ranks = found.kv_tokens or load.kv_tokens, found.ranks or load.ranks
        if (kv_tokens, ranks) != (load.kv_tokens, load.ranks):
            load.kv_tokens, load.ranks = kv_tokens, ranks
            self._sized(load)


def forget(load: Load) -> None:
    """Nothing that the engine said is known any more, but for the size of its cache, which does not change by itself."""
    load.waiting = load.running = load.kv_use = load.capacity = UNKNOWN
    load.adapters = frozenset()
