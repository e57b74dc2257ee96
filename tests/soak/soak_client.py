"""A client on plain sockets with its own small reader of HTTP, so that nothing of the gateway's judges the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 25.0
MODEL = "m"


class Broken(Exception):
    """The connection ended before the answer did."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, whole."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, *, receive_bytes: int = 0) -> Client:
        """`receive_bytes` bounds what the kernel takes before it is read, for readers that are slow."""
        plain = socket.socket()
        if receive_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
        limit = receive_bytes or 1 << 20
        return cls(*await asyncio.open_connection(sock=plain, limit=limit))

    def leave(self) -> None:
        """At once, whatever is under way."""
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def reply(self, *, pause_s: float = 0.0) -> Reply:
        """The next answer. Raises Broken; TimeoutError is an answer that never came."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self._reply(pause_s)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Broken(type(error).__name__) from None

    async def _reply(self, pause_s: float) -> Reply:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        body = bytearray()
        if headers.get(b"transfer-encoding") == b"chunked":
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += await self._exactly(size, pause_s)
                assert await self.reader.readexactly(2) == b"\r\n"
            await self.reader.readuntil(b"\r\n")
        else:
            body += await self._exactly(int(headers[b"content-length"]), pause_s)
        return Reply(int(first.split(b" ")[1]), headers, bytes(body))

    async def _exactly(self, size: int, pause_s: float) -> bytes:
        if not pause_s:
            return await self.reader.readexactly(size)
        body = b""
        while len(body) < size:
            piece = await self.reader.read(min(4096, size - len(body)))
            if not piece:
                raise asyncio.IncompleteReadError(body, size)
            body += piece
            await asyncio.sleep(pause_s)
        return body


def question(chance: random.Random, *, send: int = 20, want: int = 20, events: int = 0) -> dict[str, Any]:
    """A request's body: a nonce, `send` bytes along, and a wish for `want` bytes back, in so many events."""
    nonce = f"{chance.getrandbits(128):032x}"
    pad = "".join(chance.choices("abcdef", k=16)) * (send // 16 + 1)
    return {
        "model": MODEL,
        "nonce": nonce,
        "want": want,
        "events": events,
        "stream": bool(events),
        "pad": pad,
    }


def message(asked: dict[str, Any], chance: random.Random, *, close: bool = False) -> bytes:
    """As bytes, sized or chunked."""
    body = json.dumps(asked).encode()
    lines = [b"POST /v1/chat/completions HTTP/1.1", b"Host: soak", b"Content-Type: application/json"]
    if close:
        lines.append(b"Connection: close")
    if chance.random() < 0.2:
        half = len(body) // 2
        parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]))
        return b"\r\n".join((*lines, b"Transfer-Encoding: chunked")) + b"\r\n\r\n" + parts + b"0\r\n\r\n"
    return b"\r\n".join((*lines, b"Content-Length: %d" % len(body))) + b"\r\n\r\n" + body
