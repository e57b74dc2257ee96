"""One gateway worker: listens, serves, drains."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from penstock.gateway.feed import Feed
from penstock.gateway.pipeline import Pipeline
from penstock.gateway.state import State
from penstock.gateway.wire.message import Limits
from penstock.gateway.wire.server import Server
from penstock.kit.clock import Clock, SystemClock
from penstock.kit.errors import InvalidInput, Unavailable
from penstock.kit.tasks import end, supervise

BACKLOG = 2048
LAST_WORDS_S = 1.0
HANDOVER_S = 1.0
"""How long a worker that stops keeps connections on which nothing has been asked yet: their requests may be on the way."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where to listen, where the control plane is, and the bounds.

    `listen_fd` is a socket that listens there already and that others may hold too; this worker accepts from it and closes only its own.
    """

    host: str
    port: int
    feed_socket: Path
    state_file: Path
    listen_fd: int | None = None
    drain_s: float = 10.0
    max_in_flight: int = 10_000
    limits: Limits = field(default_factory=Limits)


async def serve(
    settings: GatewaySettings,
    stop: asyncio.Event,
    *,
    clock: Clock | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Until `stop`; then running requests get `drain_s` to end. Raises Unavailable if it cannot listen."""
    clock = clock or SystemClock()
    state = State(clock, f"gateway-{os.getpid()}", settings.max_in_flight)
    server = state.server = Server(Pipeline(state), settings.limits)
    feed = Feed(settings.feed_socket, settings.state_file, clock, state.apply, state.report)
    state.on_wake = feed.wake
    feed.load()
    listener = await _listen(settings, server)
    tasks = [
        asyncio.create_task(supervise("the gateway's feed", feed.run)),
        asyncio.create_task(supervise("the gateway's sweep of idle connections", server.sweep)),
    ]
    on_ready()
    try:
        await stop.wait()
    finally:
        listener.close()
        server.draining = True
        if server.connections:
            await asyncio.sleep(min(HANDOVER_S, settings.drain_s))
        if not await server.drain(settings.drain_s):
            for connection in tuple(server.connections):
                connection.cut()
            await server.drain(LAST_WORDS_S)
        await end(tasks)
        state.pool.close()


async def _listen(settings: GatewaySettings, server: Server) -> asyncio.Server:
    _check_bind(settings.host)
    loop = asyncio.get_running_loop()
    if settings.listen_fd is not None:
        inherited = socket.socket(fileno=settings.listen_fd)
        inherited.set_inheritable(False)
        return await loop.create_server(server.connection, sock=inherited, backlog=BACKLOG)
    try:
        return await loop.create_server(
            server.connection, settings.host, settings.port, backlog=BACKLOG, reuse_address=True
        )
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise Unavailable(
            f"{settings.host}:{settings.port}: "
            + (
                "the port is taken by another program"
                if taken
                else f"cannot listen: {error.strerror or error}"
            ),
            code="port_taken" if taken else "cannot_listen",
            hint="choose another with PENSTOCK_GATEWAY_ADDR",
        ) from None


def _check_bind(host: str) -> None:
    """Callers are not asked for credentials, so only this machine may reach the gateway."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if host != "localhost" or not _is_loopback_name(host):
        raise InvalidInput(
            f"gateway address: found {host}, expected a loopback address: callers are not asked for credentials",
            code="open_bind",
            hint="bind 127.0.0.1 and put a proxy that authenticates in front",
        )


def _is_loopback_name(host: str) -> bool:
    found = socket.getaddrinfo(host, None)
    return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)
