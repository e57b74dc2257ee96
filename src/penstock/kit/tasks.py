"""Tasks that must go on: run again with back-off when they die, and ended in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn

from penstock.kit.backoff import delay_s

FIRST_RESTART_S = 0.1
LAST_RESTART_S = 30.0
STEADY_S = 60.0
"""A body that lived this long dies for the first time again."""
log = logging.getLogger(__name__)


async def supervise(name: str, body: Callable[[], Awaitable[object]]) -> NoReturn:
    """Run `body` until cancelled: whenever it returns or fails, again, after a wait that grows from 0.1 s to 30 s."""
    loop = asyncio.get_running_loop()
    deaths = 0
    while True:
        started_at = loop.time()
        error: Exception | None = None
        try:
            await body()
        except Exception as caught:  # noqa: BLE001  whatever it died of, its siblings live on and it is tried again
            error = caught
        deaths = 1 if loop.time() - started_at >= STEADY_S else deaths + 1
        wait_s = delay_s(deaths, base_s=FIRST_RESTART_S, cap_s=LAST_RESTART_S)
        log.error("%s ended; it starts again in %.3g s", name, wait_s, exc_info=error)
        await asyncio.sleep(wait_s)


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel all and wait until each has ended; what one died of is logged, never raised."""
    ending = tuple(tasks)
    for task in ending:
        task.cancel()
    for outcome, task in zip(await asyncio.gather(*ending, return_exceptions=True), ending, strict=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
            log.error("%s failed while it ended", task.get_name(), exc_info=outcome)
