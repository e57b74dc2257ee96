"""KV events in vLLM's wire format: three frames of topic, sequence number and MessagePack, with replay of what was missed."""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from penstock.engine.prefixes import BLOCK_TOKENS, Removed, Stored

BUFFERED = 10_000
HIGH_WATER = 100_000
END = (-1).to_bytes(8, "big", signed=True)


class Publisher:
    """Publishes on `endpoint` (PUB, binds); answers replays on `replay_endpoint` (ROUTER, binds) when one is given."""

    def __init__(self, endpoint: str, replay_endpoint: str | None = None) -> None:
        """Raises OSError if an endpoint cannot be bound."""
        import zmq  # noqa: PLC0415  only engines that publish need it

        self._zmq = zmq
        context: Any = zmq.Context.instance()
        self._socket = context.socket(zmq.PUB)
        self._socket.set_hwm(HIGH_WATER)
        self._socket.bind(endpoint)
        self._replay = context.socket(zmq.ROUTER) if replay_endpoint else None
        if self._replay is not None:
            self._replay.bind(replay_endpoint)
        self._sent: deque[tuple[int, bytes]] = deque(maxlen=BUFFERED)
        self._next = 0

    def publish(self, events: Iterable[Stored | Removed]) -> None:
        """One batch; nothing is sent for none."""
        batch = [_event(event) for event in events]
        if not batch:
            return
        payload = msgspec.msgpack.encode([time.time(), batch])
        self._sent.append((self._next, payload))
        self._socket.send_multipart([b"", struct.pack(">Q", self._next), payload])
        self._next += 1

    def answer_replays(self) -> None:
        """Serve those who ask for what they missed; never waits."""
        while self._replay is not None and self._replay.poll(0):
            who, _, start = self._replay.recv_multipart()
            wanted = int.from_bytes(start, "big")
            for number, payload in self._sent:
                if number >= wanted:
                    self._replay.send_multipart([who, b"", struct.pack(">Q", number), payload])
            self._replay.send_multipart([who, b"", END, b""])

    @property
    def replay_fd(self) -> int | None:
        """For the event loop."""
        return None if self._replay is None else int(self._replay.getsockopt(self._zmq.FD))

    def close(self) -> None:
        """Let go of the endpoints."""
        self._socket.close(linger=0)
        if self._replay is not None:
            self._replay.close(linger=0)


def _event(event: Stored | Removed) -> list[Any]:
    if isinstance(event, Stored):
        return [
            "BlockStored",
            list(event.hashes),
            event.parent,
            list(event.tokens),
            BLOCK_TOKENS,
            None,
            "CPU",
        ]
    return ["BlockRemoved", list(event.hashes), "CPU"]
