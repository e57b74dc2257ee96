"""KV events in vLLM's wire format: three frames of topic, sequence number and MessagePack, with replay of what was missed."""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from penstock.engine.prefixes import BLOCK_TOKENS, Cleared, Removed, Stored
from penstock.kit.errors import Unavailable

BUFFERED = 10_000
HIGH_WATER = 100_000
END = (-1).to_bytes(8, "big", signed=True)


class Publisher:
    """Publishes on `endpoint` (PUB, binds); answers replays on `replay_endpoint` (ROUTER, binds) when one is given."""

    def __init__(
        self,
        endpoint: str,
        replay_endpoint: str | None = None,
        *,
        block_tokens: int = BLOCK_TOKENS,
        medium: str = "CPU",
        topic: bytes = b"",
    ) -> None:
        """`medium` is where the blocks lie, as vLLM says it. Raises Unavailable if an endpoint cannot be bound."""
        import zmq  # noqa: PLC0415  only engines that publish need it

        self._zmq = zmq
        self._block_tokens, self._medium, self._topic = block_tokens, medium, topic
        context: Any = zmq.Context.instance()
        self._socket = context.socket(zmq.PUB)
        self._socket.set_hwm(HIGH_WATER)
        self._replay = context.socket(zmq.ROUTER) if replay_endpoint else None
        if self._replay is not None:
            self._replay.set_hwm(BUFFERED + 1)
        self._unlisten: Callable[[], object] | None = None
        for socket, where in ((self._socket, endpoint), (self._replay, replay_endpoint)):
            try:
                if socket is not None:
                    socket.bind(where)
            except zmq.ZMQError as error:
                self.close()
                raise Unavailable(
                    f"cannot publish KV events at {where}: {error.strerror}", code="cannot_publish"
                ) from None
        self._sent: deque[tuple[int, bytes]] = deque(maxlen=BUFFERED)
        self._next = 0

    def publish(self, events: Iterable[Stored | Removed | Cleared], *, is_lost: bool = False) -> None:
        """One batch; nothing is sent for none. What `is_lost` can only be had by replay."""
        batch = [self._event(event) for event in events]
        if not batch:
            return
        payload = msgspec.msgpack.encode([time.time(), batch])
        self._sent.append((self._next, payload))
        if not is_lost:
            self._socket.send_multipart([self._topic, struct.pack(">Q", self._next), payload])
        self._next += 1

    def answer_replays(self) -> None:
        """Serve those who ask for what they missed; never waits."""
        while self._replay is not None and self._replay.poll(0):
            who, *rest = self._replay.recv_multipart()
            if len(rest) != 2 or rest[0] or len(rest[1]) != 8:
                continue  # not the question of a replay
            wanted = int.from_bytes(rest[1], "big")
            for number, payload in self._sent:
                if number >= wanted:
                    self._replay.send_multipart([who, b"", struct.pack(">Q", number), payload])
            self._replay.send_multipart([who, b"", END, b""])

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer replays from now on, also those that were asked for before."""
        if self._replay is not None:
            descriptor = self._replay.getsockopt(self._zmq.FD)
            loop.add_reader(descriptor, self.answer_replays)
            loop.call_soon(self.answer_replays)
            self._unlisten = lambda: loop.remove_reader(descriptor)

    def close(self) -> None:
        """Let go of the endpoints."""
        if self._unlisten is not None:
            self._unlisten()
        self._socket.close(linger=0)
        if self._replay is not None:
            self._replay.close(linger=0)
            self._replay = None

    def _event(self, event: Stored | Removed | Cleared) -> list[Any]:
        if isinstance(event, Cleared):
            return ["AllBlocksCleared"]
        hashes = list(event.hashes)
        if isinstance(event, Removed):
            return ["BlockRemoved", hashes, self._medium]
        tokens = list(event.tokens)
        stored = ["BlockStored", hashes, event.parent, tokens, self._block_tokens, None, self._medium]
        return [*stored, event.adapter] if event.adapter else stored
