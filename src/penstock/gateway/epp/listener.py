"""The port on which Envoy asks where requests go (envoy.service.ext_proc.v3), and Kubernetes whether we are well (grpc.health.v1)."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from grpc import StatusCode, aio

from penstock.gateway.epp import health, messages
from penstock.gateway.epp.conversation import Conversation
from penstock.gateway.epp.picking import Manner
from penstock.gateway.grpc.credentials import add_port
from penstock.gateway.grpc.handover import Port, age_option
from penstock.gateway.grpc.listener import Every
from penstock.gateway.grpc.metadata import status_of
from penstock.gateway.grpc.passage import Context, Room
from penstock.gateway.state import State
from penstock.gateway.wire.message import Limits
from penstock.kit.errors import PlatformError

MAX_STREAMS = 10_000
"""Conversations at once on one connection: an Envoy's thread has one for all that it asks."""
SPARE = 1000
"""Conversations beyond the requests in flight that may be about to be refused."""
logger = logging.getLogger(__name__)


class Listener:
    """Takes conversations from `start` to `stop`."""

    def __init__(
        self,
        state: State,
        limits: Limits,
        address: tuple[str, int],
        tls: tuple[Path, Path] | None,
        manner: Manner,
    ) -> None:
        """`tls` are the files of certificate and key. Nothing listens yet."""
        host, port = address
        self._port = Port(port)
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._state, self._limits, self._tls = state, limits, tls
        self._manner = manner
        self._room = Room(limits.max_buffered_bytes)
        self._is_stopping = False

    async def start(self) -> None:
        """Listen. Raises Unavailable if the port cannot be had, InvalidInput if the certificate cannot be used."""
        self._server = aio.server(
            handlers=(Every(self._take),),
            options=[
                ("grpc.max_receive_message_length", self._limits.max_body_bytes),
                ("grpc.max_send_message_length", self._limits.max_body_bytes),
                ("grpc.max_concurrent_streams", MAX_STREAMS),
                age_option(),
            ],
            maximum_concurrent_rpcs=self._state.max_in_flight + SPARE,
        )
        add_port(self._server, self._address, self._tls, hint="choose another with --listen")
        await self._server.start()
        self._port.taken()

    async def stop(self, drain_s: float) -> None:
        """Not ready from now on; then no more conversations, and those that run may end within `drain_s`."""
        self._is_stopping = True
        await self._port.hand_over(drain_s)
        await self._server.stop(drain_s)

    async def _take(self, method: str, context: Context) -> None:
        if method == messages.PROCESS:
            await self._process(context)
        elif method == health.CHECK:
            await self._check(context)
        else:
            await context.abort(StatusCode.UNIMPLEMENTED, f"there is nothing at {method}")

    async def _process(self, context: Context) -> None:
        async def receive() -> bytes | None:
            message = await context.read()
            return message if isinstance(message, bytes) else None

        conversation = Conversation(self._state, self._limits, self._room, self._manner)
        try:
            await conversation.run(receive, context.write)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.error("a conversation failed", exc_info=error)
            await context.abort(StatusCode.INTERNAL, "the endpoint picker failed on this request")

    async def _check(self, context: Context) -> None:
        request = await context.read()
        try:
            is_ready = self._state.is_ready and not self._is_stopping
            answer = health.check(request if isinstance(request, bytes) else b"", is_ready=is_ready)
        except PlatformError as error:
            code, details, _ = status_of(error)
            await context.abort(code, details)
        await context.write(answer)
