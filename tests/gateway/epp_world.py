"""An endpoint picker on a free port, and someone who asks it as Envoy does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ext_proc_messages import header_map, headers_of, request, response
from grpc import aio, ssl_channel_credentials

from free_ports import free_port
from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.gateway.epp.messages import PROCESS, Mode
from penstock.gateway.epp.server import EppSettings, serve

DUPLEX = (int(Mode.FULL_DUPLEX_STREAMED), int(Mode.FULL_DUPLEX_STREAMED))
BUFFERED = (int(Mode.BUFFERED), int(Mode.NONE))
HEAD = {":method": "POST", ":path": "/v1/chat/completions", ":authority": "models.example"}
OK = {":status": "200", "content-type": "application/json"}
EVENTS = {":status": "200", "content-type": "text/event-stream"}
DESTINATION = "x-gateway-destination-endpoint"
ADDRESSES = [f"10.0.0.{number}:8000" for number in (1, 2, 3, 4)]


def chat(content: str = "hello", **fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": content}], **fields}).encode()


def pool(*addresses: str, **fields: Any) -> ServiceRoute:
    endpoints = tuple(
        Endpoint(name=f"pod-{one}", address=one.rpartition(":")[0], port=int(one.rpartition(":")[2]))
        for one in addresses
    )
    given: dict[str, Any] = {
        "namespace": "default",
        "name": "pool",
        "uid": "1",
        "engine_model": "",
        "phase": "Ready",
        "revisions": (RevisionRoute(name="r", weight_percent=100, endpoints=endpoints),),
        "routing": RoutingRoute(),
    }
    return ServiceRoute(**{**given, **fields})


class Exchange:
    """One HTTP request that goes through Envoy."""

    def __init__(self, channel: aio.Channel, modes: tuple[int, int] = DUPLEX) -> None:
        self.call = channel.stream_stream(PROCESS)()
        self._modes = modes

    async def head(
        self, headers: dict[str, str] | None = None, *, ends: bool = False, metadata: Any = None
    ) -> None:
        part = {"headers": header_map({**HEAD, **(headers or {})}), "end_of_stream": ends}
        await self.call.write(request(request_headers=part, modes=self._modes, metadata=metadata))

    async def body(self, data: bytes, *, ends: bool = True) -> None:
        await self.call.write(request(request_body={"body": data, "end_of_stream": ends}))

    async def answer_head(self, headers: dict[str, str], *, served: str = "", ends: bool = False) -> Any:
        metadata = {"envoy.lb": {f"{DESTINATION}-served": served}} if served else None
        part = {"headers": header_map(headers), "end_of_stream": ends}
        await self.call.write(request(response_headers=part, metadata=metadata))
        return await self.read()

    async def answer_body(self, data: bytes, *, ends: bool = True) -> None:
        await self.call.write(request(response_body={"body": data, "end_of_stream": ends}))

    async def read(self) -> Any:
        async with asyncio.timeout(30):
            data = await self.call.read()
        assert isinstance(data, bytes), "it ended the conversation"
        return response(data)

    async def ended(self) -> bool:
        async with asyncio.timeout(30):
            return await self.call.read() is aio.EOF

    async def asked(self, body: bytes, headers: dict[str, str] | None = None, metadata: Any = None) -> Any:
        """Head and whole body; the first that comes back."""
        await self.head(headers, metadata=metadata)
        await self.body(body)
        return await self.read()

    async def answered(self, body: bytes, headers: dict[str, str] = OK, served: str = "") -> None:
        """The whole answer; the request's body has been taken back."""
        await self.answer_head(headers, served=served)
        await self.answer_body(body)
        await self.read()
        await self.call.done_writing()
        assert await self.ended()


def picked(message: Any) -> list[str]:
    """The endpoints; the header and the metadata say the same."""
    field = message.request_headers if message.HasField("request_headers") else message.request_body
    told = headers_of(field.response.header_mutation)[DESTINATION]
    assert message.dynamic_metadata["envoy.lb"][DESTINATION] == told
    return told.split(",")


@asynccontextmanager
async def picker(
    service: ServiceRoute | None = None, *, trusts: bytes | None = None, **settings: Any
) -> AsyncIterator[aio.Channel]:
    """A channel to it; over TLS where an authority is trusted."""
    port = free_port()
    stop, ready = asyncio.Event(), asyncio.Event()
    chosen = EppSettings(listen=("127.0.0.1", port), service=service, drain_s=0.2, **settings)
    serving = asyncio.create_task(serve(chosen, stop, open_profile=open_profile, on_ready=ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        async with _channel(f"127.0.0.1:{port}", trusts) as channel:
            yield channel
    finally:
        stop.set()
        await serving


def _channel(target: str, trusts: bytes | None) -> aio.Channel:
    if trusts is None:
        return aio.insecure_channel(target)
    return aio.secure_channel(target, ssl_channel_credentials(trusts))
