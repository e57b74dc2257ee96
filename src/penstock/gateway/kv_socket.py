"""A ZeroMQ socket that the event loop waits for: what is there is taken without a Future or a task for each message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from penstock.gateway.kv_event_codec import MAX_BATCH_BYTES

RECONNECT_MS = 1_000
"""Until an engine that came back is heard again at the latest: for so long it draws requests by what it held before."""


class KvSocket:
    """One reader. Opened within the loop that waits for it."""

    def __init__(self, context: Any, kind: int, address: str, waiting: int) -> None:
        """Connects as soon as the other side is there. `waiting` messages wait at most; a larger one than a batch may be breaks it off."""
        import zmq  # noqa: PLC0415  only gateways of engines that publish need it

        self._nothing, self._at_once = zmq.Again, zmq.NOBLOCK
        self._loop = asyncio.get_running_loop()
        socket = self._socket = context.socket(kind)
        socket.setsockopt(zmq.RCVHWM, waiting)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BATCH_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MS)
        socket.setsockopt(zmq.IPV6, 1)
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.connect(address)
        self._descriptor: int = socket.getsockopt(zmq.FD)

    def send(self, frames: Sequence[bytes]) -> None:
        """One message, to be sent when the other side is there."""
        self._socket.send_multipart(frames, self._at_once)

    async def received(self) -> list[bytes]:
        """The frames of the next message."""
        while True:
            try:
                frames: list[bytes] = self._socket.recv_multipart(self._at_once)
            except self._nothing:
                await self._news()
            else:
                return frames

    async def _news(self) -> None:
        """The descriptor is readable until the socket has been looked at: then nobody listens to it, or the loop would not rest."""
        arrived = self._loop.create_future()
        self._loop.add_reader(self._descriptor, self._wake, arrived)
        try:
            await arrived
        finally:
            self._loop.remove_reader(self._descriptor)

    def _wake(self, arrived: asyncio.Future[None]) -> None:
        self._loop.remove_reader(self._descriptor)
        if not arrived.done():
            arrived.set_result(None)

    def close(self) -> None:
        """What was to be sent is dropped."""
        self._socket.close(linger=0)
