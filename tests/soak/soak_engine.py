"""An engine that echoes each request's nonce, keeps a book of what it did, and fails in every phase of an answer now and then."""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

FAULTS = {
    "reset_on_accept": 1,
    "reset_in_head": 1,
    "reset_after_request": 2,
    "cut_in_answers_head": 2,
    "cut_in_body": 3,
    "cut_in_chunk": 2,
    "cut_between_events": 2,
    "busy": 3,
    "busy_and_close": 2,
    "hang": 1,
    "broken_http": 1,
    "close_when_idle": 3,
}
"""How often each comes about, among themselves."""
HANG_S = 1.5
SLOW_S = 0.05


@dataclass
class Book:
    """By nonce: how often a whole answer was written, and what went wrong on the way."""

    whole: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def fault(self, nonce: str, kind: str) -> None:
        self.faults.setdefault(nonce, []).append(kind)
        self.counts[kind] += 1


class SoakEngine:
    """One engine on one port, which can be restarted."""

    def __init__(self, book: Book, seed: int, fault_share: float) -> None:
        self._book = book
        self._random = random.Random(seed)
        self._fault_share = fault_share
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As a process that dies: what is under way breaks off."""
        if self._server is not None:
            self._server.close()
        for task, nonce in tuple(self._tasks.items()):
            if nonce:
                self._book.fault(nonce, "restart")
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks[task] = ""
        task.add_done_callback(self._tasks.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while True:
                fault = self._draw()
                if fault in ("reset_on_accept", "close_when_idle"):
                    self._book.counts[fault] += 1
                    return
                head = await reader.readuntil(b"\r\n\r\n")
                if fault == "reset_in_head":
                    self._book.counts[fault] += 1
                    return
                request = json.loads(await reader.readexactly(_length(head)))
                self._tasks[task] = request["nonce"]
                if fault:
                    self._book.fault(request["nonce"], fault)
                if not await self._answer(request, fault, writer):
                    return
                self._tasks[task] = ""
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            if self._tasks.get(task):
                writer.transport.abort()
            else:
                writer.close()

    def _draw(self) -> str:
        if self._random.random() >= self._fault_share:
            return ""
        return self._random.choices(list(FAULTS), list(FAULTS.values()))[0]

    async def _answer(self, request: dict[str, Any], fault: str, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection lives on. What a fault sends is sent before the connection breaks."""
        if fault == "reset_after_request":
            return False
        if fault == "hang":
            await asyncio.sleep(HANG_S)
            return False
        if fault in ("busy", "busy_and_close"):
            writer.write(b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nbusy")
            await writer.drain()
            return fault == "busy"
        if fault == "broken_http":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n")
            await writer.drain()
            return False
        if self._random.random() < 0.1:
            await asyncio.sleep(self._random.random() * SLOW_S)
        pieces = stream(request) if request.get("events") else whole(request)
        return await self._write(pieces, request["nonce"], fault, writer)

    async def _write(self, pieces: list[bytes], nonce: str, fault: str, writer: asyncio.StreamWriter) -> bool:
        last = len(pieces) - 1
        stop = self._random.randrange(1, last) if last > 1 else 1
        for place, piece in enumerate(pieces):
            if fault == "cut_in_answers_head":
                writer.write(piece[: len(piece) // 2])
            elif fault and place == stop:
                if fault != "cut_between_events":
                    writer.write(piece[: len(piece) // 2])
            else:
                if place == last:
                    self._book.whole[nonce] += 1
                writer.write(piece)
                await writer.drain()
                continue
            await writer.drain()
            return False
        return True


def whole(request: dict[str, Any]) -> list[bytes]:
    """A sized answer: head, and body in two pieces."""
    body = json.dumps(
        {"nonce": request["nonce"], "sum": checksum(request), "pad": "x" * request["want"]}
    ).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    half = len(body) // 2
    return [head, body[:half], body[half:]]


def stream(request: dict[str, Any]) -> list[bytes]:
    """Server-sent events, each with the nonce and its number; the last says the checksum."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    pad = "x" * (request["want"] // request["events"])
    told = [{"nonce": request["nonce"], "n": n, "pad": pad} for n in range(request["events"])]
    texts = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in told]
    texts.append(
        b"data: " + json.dumps({"nonce": request["nonce"], "sum": checksum(request)}).encode() + b"\n\n"
    )
    return [head, *(b"%x\r\n%s\r\n" % (len(text), text) for text in texts), b"0\r\n\r\n"]


def checksum(request: dict[str, Any]) -> int:
    """Of what was sent along, so that a mixed-up body shows."""
    return zlib.crc32(request["pad"].encode())


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
