"""The API on a socket: uvicorn inside a running loop, stopped by an event and not by signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from penstock.host.api.certificate import Certificate

DRAIN_S = 2
"""How long requests that are under way may take once the server stops; watches and followed logs end at once."""


class _Server(uvicorn.Server):
    """Signals belong to the process that this server is one part of."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_api(
    app: Starlette,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    certificate: Certificate | None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve what `build_api` made until `stop` is set; `on_ready` is called once requests are answered.

    Without a certificate plain HTTP, to which kubectl sends no token.
    """
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
        ssl_certfile=certificate.certificate if certificate else None,
        ssl_keyfile=certificate.key if certificate else None,
    )
    server = _Server(config, on_ready)
    serving = asyncio.create_task(server.serve([listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        app.state.streams.close()
        server.should_exit = True
        await serving
