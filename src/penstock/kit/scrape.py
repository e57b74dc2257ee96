"""One small HTTP GET, as metrics are scraped: bounded in time and size, without a client library.

It asks by HTTP/1.0, which every server answers until it closes, so bodies need no framing; one that chunks all the same is read.
"""

from __future__ import annotations

import asyncio

from penstock.kit.errors import Unavailable

MAX_BODY_BYTES = 4 << 20
MAX_HEAD_BYTES = 65536
MAX_CHUNKS = 16_384
MAX_SIZE_LINE = 256
TIMEOUT_S = 2.0


async def scrape(host: str, port: int, path: str, *, timeout_s: float = TIMEOUT_S) -> str:
    """The body of `http://HOST:PORT/PATH`. Raises Unavailable: no answer, an answer other than 200, or too much of it."""
    where = f"http://{host}:{port}/{path.lstrip('/')}"
    if any(character.isspace() or ord(character) < 32 for character in where):
        raise Unavailable(f"{where!r}: a space or control character is in the path", code="scrape_failed")
    try:
        async with asyncio.timeout(timeout_s):
            head, body = await _get(host, port, f"/{path.lstrip('/')}")
    except TimeoutError:
        raise _failed(where, f"no answer within {timeout_s:g} s") from None
    except asyncio.LimitOverrunError:
        raise _failed(where, f"more than {MAX_HEAD_BYTES} bytes of headers") from None
    except asyncio.IncompleteReadError:
        raise _failed(where, "the connection closed within the answer's headers") from None
    except OSError as error:
        raise _failed(where, error.strerror or type(error).__name__) from None
    status, *headers = head.split("\r\n")
    code = status.split(" ")[1:2]
    if code != ["200"]:
        raise _failed(where, f"answered {' '.join(code) or status[:40]!r}, expected 200")
    if len(body) > MAX_BODY_BYTES:
        raise _failed(where, f"more than {MAX_BODY_BYTES} bytes")
    chunked = any(line.lower().replace(" ", "") == "transfer-encoding:chunked" for line in headers)
    content = _joined(body) if chunked else body
    if content is None:
        raise _failed(where, f"more than {MAX_CHUNKS} chunks")
    return content.decode("utf-8", "replace")


async def _get(host: str, port: int, path: str) -> tuple[str, bytes]:
    reader, writer = await asyncio.open_connection(host, port, limit=MAX_HEAD_BYTES)
    try:
        lines = (f"GET {path} HTTP/1.0", f"Host: {host}:{port}", "Accept: text/plain", "Connection: close")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        body = bytearray()
        while len(body) <= MAX_BODY_BYTES and (chunk := await reader.read(65536)):
            body += chunk
        return head.rstrip(), bytes(body)
    finally:
        writer.close()


def _joined(body: bytes) -> bytes | None:
    """The chunks' contents; what is cut off is left out. None for too many chunks."""
    whole, at = bytearray(), 0
    for _ in range(MAX_CHUNKS):
        end = body.find(b"\r\n", at, at + MAX_SIZE_LINE)
        try:
            length = int(body[at:end].split(b";")[0], 16) if end >= 0 else 0
        except ValueError:
            length = 0
        if length <= 0:
            return bytes(whole)
        whole += body[end + 2 : end + 2 + length]
        at = end + length + 4
    return None


def _failed(where: str, why: str) -> Unavailable:
    return Unavailable(f"{where}: {why}", code="scrape_failed")
