"""An engine that notes what it gets, by its own strict reading: anything that two engines could read in two ways fails here."""

from __future__ import annotations

import asyncio
import contextlib
import re

from gateway_world import OK, Engine

_FIELD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-zA-Z]+:[ \t]?[\t\x20-\x7e\x80-\xff]*")
_LINE = re.compile(rb"[A-Z]+ [\x21-\x7e]+ HTTP/1\.1")


class Recorder(Engine):
    """Use as an Engine. `seen`: method, target and body of each request; `heads`: fields; `faults`: what was ambiguous."""

    def __init__(self, name: str = "recorder") -> None:
        super().__init__(name)
        self.seen: list[tuple[bytes, bytes, bytes]] = []
        self.heads: list[list[tuple[bytes, bytes]]] = []
        self.faults: list[str] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *rest = head[:-4].split(b"\r\n")
                fields = self._fields(first, rest)
                method, target = first.split(b" ")[:2]
                body = await self._body(dict(fields), reader)
                self.seen.append((method, target, body))
                self.heads.append(fields)
                writer.write(OK[:-2] if method == b"HEAD" else OK)
                await writer.drain()

    def _fields(self, first: bytes, rest: list[bytes]) -> list[tuple[bytes, bytes]]:
        if not _LINE.fullmatch(first):
            self.faults.append(f"request line {first!r}")
        self.faults.extend(f"field {line!r}" for line in rest if not _FIELD.fullmatch(line))
        fields = [(name.lower(), value.strip()) for name, _, value in (x.partition(b":") for x in rest)]
        names = [name for name, _ in fields]
        for name in (b"host", b"x-request-id"):
            if names.count(name) != 1:
                self.faults.append(f"{names.count(name)} fields {name!r}")
        if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
            self.faults.append("more than one statement of length")
        return fields

    async def _body(self, fields: dict[bytes, bytes], reader: asyncio.StreamReader) -> bytes:
        if b"transfer-encoding" not in fields:
            return await reader.readexactly(int(fields.get(b"content-length", b"0")))
        if fields[b"transfer-encoding"] != b"chunked":
            self.faults.append(f"transfer-encoding {fields[b'transfer-encoding']!r}")
        body = b""
        while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return body
