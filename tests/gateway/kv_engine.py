"""An engine's side of KV events on loopback sockets, and an index that only writes down what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import zmq

from free_ports import free_port as free_port
from penstock.contracts.exchange import Endpoint
from penstock.gateway.kv_event_codec import EngineHash

KEY = "a"
SIZE = 4


def endpoint(live: int, replay: int = 0) -> Endpoint:
    return Endpoint(name=KEY, address="127.0.0.1", port=8080, kv_events_port=live, kv_replay_port=replay)


def stored(*hashes: Any, parent: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "type": "BlockStored",
        "block_hashes": list(hashes),
        "parent_block_hash": parent,
        "token_ids": list(range(SIZE * len(hashes))),
        "block_size": SIZE,
        **fields,
    }


class Notes:
    """Which blocks are held by what was told, and in which words it was told."""

    def __init__(self) -> None:
        self.held: dict[str, set[EngineHash]] = defaultdict(set)
        self.doubts: dict[str, bool] = defaultdict(bool)
        self.calls: list[tuple[Any, ...]] = []

    def stored(
        self,
        endpoint: str,
        parent: EngineHash | None,
        hashes: Sequence[EngineHash],
        tokens: Sequence[int],
        block_size: int,
        adapter: str,
        extra: Sequence[Any],
    ) -> None:
        assert len(tokens) == len(hashes) * block_size
        self.calls.append(("stored", parent, list(hashes), list(tokens), block_size, adapter, list(extra)))
        self.held[endpoint].update(hashes)

    def removed(self, endpoint: str, hashes: Sequence[EngineHash]) -> None:
        self.calls.append(("removed", list(hashes)))
        self.held[endpoint].difference_update(hashes)

    def cleared(self, endpoint: str) -> None:
        self.calls.append(("cleared",))
        self.held[endpoint] = set()

    def distrust(self, endpoint: str) -> None:
        self.calls.append(("distrust",))
        self.doubts[endpoint] = True

    def trust(self, endpoint: str) -> None:
        self.doubts[endpoint] = False

    def restarted(self, endpoint: str) -> None:
        self.calls.append(("restarted",))
        self.held[endpoint] = set()
        self.doubts[endpoint] = True


class HandEngine:
    """Publishes what it is told to, byte for byte, and keeps what a test says it keeps."""

    def __init__(self, live: int, replay: int = 0, *, frames: int = 3) -> None:
        self._socket = zmq.Context.instance().socket(zmq.PUB)
        _bind(self._socket, live)
        self._router = zmq.Context.instance().socket(zmq.ROUTER) if replay else None
        if self._router is not None:
            _bind(self._router, replay)
        self._frames = frames
        self.kept: list[tuple[int, bytes]] = []
        self.asked: list[int] = []

    def batch(self, number: int, *events: Any, at: float | None = None, lost: bool = False) -> None:
        payload = msgspec.msgpack.encode({"ts": float(number) if at is None else at, "events": events})
        self.kept.append((number, payload))
        if not lost:
            self.send(b"kv@here", number.to_bytes(8, "big"), payload)

    def send(self, *frames: bytes) -> None:
        self._socket.send_multipart(list(frames))

    def answer(self) -> None:
        while self._router is not None and self._router.poll(0):
            who, empty, start = self._router.recv_multipart()
            self.asked.append(int.from_bytes(start, "big"))
            topic = [b"kv@here"] if self._frames == 4 else []
            for number, payload in self.kept:
                if number >= self.asked[-1]:
                    self._router.send_multipart([who, empty, *topic, number.to_bytes(8, "big"), payload])
            self._router.send_multipart([who, empty, *topic, b"\xff" * 8, b""])

    def close(self) -> None:
        self._socket.close(linger=0)
        if self._router is not None:
            self._router.close(linger=0)


def _bind(one: Any, port: int) -> None:
    """A port that was closed a moment ago is free only when ZeroMQ's own thread has closed it."""
    for _ in range(3000):
        try:
            return one.bind(f"tcp://127.0.0.1:{port}")
        except zmq.ZMQError:
            time.sleep(0.01)
    raise AssertionError(f"port {port} stays in use")


async def until(is_so: Callable[[], bool], work: Callable[[], object] = lambda: None) -> None:
    """Wait for what sockets bring about, for as long as it may take on a busy machine."""
    async with asyncio.timeout(30):
        while not is_so():
            work()
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def hearing(events: Any, *endpoints: Endpoint) -> Any:
    events.watch(endpoints)
    try:
        yield events
    finally:
        await events.close()
