"""What the entry points of the control plane and the gateway have in common: signals, the supervisor's line, how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from enum import Enum

import uvloop

from penstock.app.link import Link
from penstock.app.settings import Settings, load
from penstock.kit.errors import PlatformError

log = logging.getLogger(__name__)
CANNOT_RUN = 1


class Ending(Enum):
    """Why a process is to end."""

    STOPPED = "asked to stop"
    ABANDONED = "the supervisor is gone"


class Stop:
    """Set once, with the reason."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.ending = Ending.STOPPED

    def set(self, ending: Ending) -> None:
        """The first reason counts."""
        if not self.event.is_set():
            self.ending = ending
            self.event.set()


Body = Callable[[Settings, Link, Stop], Awaitable[None]]


def main(body: Body) -> None:
    """Run `body` until SIGTERM, SIGINT, or the loss of the supervisor; exit code 1 if it cannot run."""
    sys.exit(uvloop.run(_run(body)))


async def _run(body: Body) -> int:
    link, stop = Link(), Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set, Ending.STOPPED)
    watching = loop.create_task(_abandon(link, stop))
    try:
        await body(load(os.environ), link, stop)
    except PlatformError as error:
        log.error("cannot run: %s (%s)", error.message, error.hint)
        link.failed(error)
        return CANNOT_RUN
    finally:
        watching.cancel()
    return 0


async def _abandon(link: Link, stop: Stop) -> None:
    await link.lost.wait()
    stop.set(Ending.ABANDONED)
