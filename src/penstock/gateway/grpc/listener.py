"""The gateway's port for KServe's V2 gRPC, beside its HTTP port: one per worker, all on one address (SO_REUSEPORT).

HTTP/2 and gRPC's framing are grpcio's; it takes every method, with messages as bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
from grpc import aio

from penstock.gateway.grpc.credentials import add_port
from penstock.gateway.grpc.engines import Engines
from penstock.gateway.grpc.handover import Port, age_option
from penstock.gateway.grpc.passage import Context, Passage, Room
from penstock.gateway.state import State
from penstock.gateway.wire.message import Limits

LAST_WORDS_S = 1.0
MAX_STREAMS = 1000
"""Calls at once on one connection."""
SPARE = 1000
"""Calls beyond those in flight that may be about to be read or refused."""


class GrpcListener:
    """Takes calls from `start` to `stop`."""

    def __init__(
        self, state: State, limits: Limits, host: str, port: int, tls: tuple[Path, Path] | None = None
    ) -> None:
        """`tls` are the files of certificate and key. Nothing listens yet."""
        self._state, self._limits, self._tls = state, limits, tls
        self._port = Port(port)
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._engines = Engines(limits)
        self._room = Room(limits.max_buffered_bytes)
        self._running: set[Passage] = set()

    async def start(self) -> None:
        """Listen. Raises Unavailable if the port cannot be had, InvalidInput if the certificate cannot be used."""
        self._server = aio.server(
            handlers=(Every(self._take),),
            options=[
                ("grpc.max_receive_message_length", self._limits.max_body_bytes),
                ("grpc.max_send_message_length", self._limits.max_body_bytes),
                ("grpc.max_metadata_size", self._limits.max_head_bytes),
                ("grpc.max_concurrent_streams", MAX_STREAMS),
                age_option(),
            ],
            maximum_concurrent_rpcs=self._state.max_in_flight + SPARE,
        )
        add_port(self._server, self._address, self._tls, hint="choose another with PENSTOCK_GRPC_ADDR")
        await self._server.start()
        self._port.taken()

    async def keep_up(self) -> None:
        """Once in a while: leave the engines that are gone."""
        await self._engines.prune(self._state.names, self._state.endpoints.in_flight)

    async def stop(self, drain_s: float) -> None:
        """Take no more connections, then no more calls; let those that run end within `drain_s`, tell the rest that the gateway stops."""
        await self._port.hand_over(drain_s)
        stopping = asyncio.create_task(self._server.stop(drain_s + LAST_WORDS_S))
        await asyncio.wait((stopping,), timeout=drain_s)
        for passage in tuple(self._running):
            passage.cut()
        await stopping
        await self._engines.close()

    async def _take(self, method: str, context: Context) -> None:
        passage = Passage(method, context, self._state, self._engines, self._room, self._limits)
        self._running.add(passage)
        try:
            await passage.run()
        finally:
            self._running.discard(passage)


class Every(grpc.GenericRpcHandler):
    """Every method there is or will be."""

    def __init__(self, take: Callable[[str, Context], Awaitable[None]]) -> None:
        self._take = take

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Messages as they are, in both directions, and as many as there come."""
        method = handler_call_details.method

        async def handle(_: object, context: Context) -> None:
            await self._take(method, context)

        return grpc.stream_stream_rpc_method_handler(handle)
