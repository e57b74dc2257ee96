"""An engine that only notes when it was asked: ready after a while, every answer at once, and its notes at `/notes`.

Run by `penstock up` as a pod's process: it binds POD_IP.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

PORT = 8080
READY_AFTER_S = 1.5
ANSWER = {
    "id": "one",
    "object": "chat.completion",
    "created": 0,
    "model": "waited-for",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class Engine:
    """Notes are Unix times: the first answer to the gateway that it is ready, and every request."""

    def __init__(self) -> None:
        self._ready_at = time.time() + READY_AFTER_S
        self._told: float | None = None
        self._asked: list[float] = []

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                came = time.time()
                length = next(
                    (int(line[15:]) for line in head.split("\r\n") if line[:15] == "content-length:"), 0
                )
                await reader.readexactly(length)
                status, document = self._answer(head, came)
                body = json.dumps(document).encode()
                writer.write(
                    f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, head: str, came: float) -> tuple[str, Any]:
        if head.startswith("get /notes"):
            return "200 OK", {"ready": self._told, "asked": self._asked}
        if head.startswith("get /ready"):
            if came < self._ready_at:
                return "503 Service Unavailable", {}
            if self._told is None and "penstock-gateway" in head:
                self._told = came
            return "200 OK", {}
        self._asked.append(came)
        return "200 OK", ANSWER


async def main() -> None:
    server = await asyncio.start_server(Engine().converse, os.environ["POD_IP"], PORT, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
