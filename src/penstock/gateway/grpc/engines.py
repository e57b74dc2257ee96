"""Channels to engines: one per endpoint, kept while the table in force has it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from grpc import ChannelConnectivity, aio

from penstock.contracts.exchange import Endpoint
from penstock.gateway.names import Names
from penstock.gateway.wire.message import Limits

Address = tuple[str, int]
CONNECT_S = 5.0
FIRST_BACKOFF_MS, MAX_BACKOFF_MS = 50, 1000
"""How long a channel whose engine refuses connections waits before it tries again."""


class Engines:
    """One writer: the event loop of this worker."""

    def __init__(self, limits: Limits) -> None:
        """Nothing is connected. Messages beyond `limits.max_body_bytes` are refused by either side."""
        self._options = [
            ("grpc.max_receive_message_length", limits.max_body_bytes),
            ("grpc.max_send_message_length", limits.max_body_bytes),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", FIRST_BACKOFF_MS),
            ("grpc.max_reconnect_backoff_ms", MAX_BACKOFF_MS),
        ]
        self._channels: dict[Address, tuple[str, aio.Channel]] = {}
        self._pruned: Names | None = None

    async def connected(self, endpoint: Endpoint, within_s: float) -> aio.Channel | None:
        """The channel to an endpoint once it is connected; None if it cannot be."""
        address = (endpoint.address, endpoint.grpc_port)
        _, channel = self._channels.get(address, ("", None))
        if channel is None:
            host = f"[{address[0]}]" if ":" in address[0] else address[0]
            channel = aio.insecure_channel(f"{host}:{address[1]}", options=self._options)
            self._channels[address] = endpoint.name, channel
        try:
            async with asyncio.timeout(min(within_s, CONNECT_S)):
                return channel if await _connects(channel) else None
        except TimeoutError:
            return None

    @staticmethod
    def is_broken(channel: aio.Channel) -> bool:
        """Whether the connection is gone, so that what ended a call was not the engine's own word."""
        return channel.get_state() is not ChannelConnectivity.READY

    async def prune(self, names: Names, busy: Collection[str]) -> None:
        """Close the channels to endpoints that the table does not have any more, but not those to `busy` ones: a pod that is
        being deleted finishes what it has begun.
        """
        if names is self._pruned:
            return
        present = {
            (endpoint.address, endpoint.grpc_port)
            for service in names.table.services
            for revision in service.revisions
            for endpoint in revision.endpoints
        }
        gone = [address for address in self._channels if address not in present]
        idle = [address for address in gone if self._channels[address][0] not in busy]
        self._pruned = names if len(idle) == len(gone) else None
        for address in idle:
            await self._channels.pop(address)[1].close()

    async def close(self) -> None:
        """Close all."""
        channels, self._channels = self._channels, {}
        await asyncio.gather(*(channel.close() for _, channel in channels.values()))


async def _connects(channel: aio.Channel) -> bool:
    state = channel.get_state(try_to_connect=True)
    while state is not ChannelConnectivity.READY:
        if state in (ChannelConnectivity.TRANSIENT_FAILURE, ChannelConnectivity.SHUTDOWN):
            return False
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return True
