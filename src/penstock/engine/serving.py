"""Listens, serves, drains: the same for models that generate and models that embed."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Protocol

from penstock.engine.http import Connection, Exchange
from penstock.kit.errors import Unavailable

DRAIN_S = 20.0
"""What requests that run get to end, or to say, and their readers to hear, that there is nobody left to go on with them."""
logger = logging.getLogger(__name__)


class Api(Protocol):
    """What answers exchanges. While `draining` it takes nothing new."""

    draining: bool

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one."""
        ...


async def serve_until_stopped(api: Api, host: str, port: int, work: asyncio.Task[None] | None = None) -> None:
    """Until SIGTERM; then running requests may end. Or until `work` ends, whose error is raised when all were told. Raises Unavailable."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    live: set[Connection] = set()
    server = await _listen(api, host, port, live)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, *([work] if work else [])], return_when=asyncio.FIRST_COMPLETED)
    if work is not None and work.done():
        await _drain(server, api, live)
        work.result()
    logger.info("stopping: %d connections are busy", sum(not connection.idle for connection in live))
    await _drain(server, api, live)


async def _listen(api: Api, host: str, port: int, live: set[Connection]) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(lambda: Connection(api, live), host, port)
    except OSError as error:
        raise Unavailable(f"cannot listen on {host}:{port}: {error.strerror}", code="cannot_listen") from None


async def _drain(server: asyncio.Server, api: Api, live: set[Connection]) -> None:
    """No new connections; idle ones close; running requests get their time."""
    api.draining = True
    server.close()
    deadline = asyncio.get_running_loop().time() + DRAIN_S
    while live and asyncio.get_running_loop().time() < deadline:
        for connection in tuple(live):
            connection.closing = True
            if connection.idle:
                connection.close()
        await asyncio.sleep(0.02)
