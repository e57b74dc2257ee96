"""A server that stands where the gateway does: a translator in front of answers that an engine gave."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import msgspec

from penstock.gateway.dialects.dialect import CallInfo, Dialect, Translated
from penstock.gateway.dialects.known import DIALECTS

PATHS = (
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
)
INFO = CallInfo("req-1", 1_800_000_000.0, lambda: 0.25)


def of(path: str) -> Dialect:
    """The dialect that has this path."""
    return DIALECTS["anthropic" if path.startswith("/v1/") else "ollama"]


def sse(*events: object, done: bool = True) -> bytes:
    """An engine's stream."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {text}\n\n" for text in texts + (["[DONE]"] if done else [])).encode()


def delta(finish: str | None = None, **fields: object) -> dict[str, object]:
    """One chunk of a chat."""
    choice = {"index": 0, "delta": fields, "finish_reason": finish, "logprobs": None}
    return {
        "id": "chatcmpl-9",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, object]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def usage_chunk(prompt: int, completion: int, cached: int = 0) -> dict[str, object]:
    return {"id": "chatcmpl-9", "choices": [], "usage": usage(prompt, completion, cached)}


def completion(finish: str = "stop", *, more: dict[str, object] | None = None, **message: object) -> bytes:
    """A whole answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, **message},
        "finish_reason": finish,
    }
    found = {
        "id": "chatcmpl-9",
        "object": "chat.completion",
        "model": "m",
        "choices": [choice | (more or {})],
    }
    return json.dumps(found | {"usage": usage(12, 5, 4)}).encode()


def tool_piece(index: int, arguments: str, **first: str) -> dict[str, object]:
    """A piece of a tool call; the first has `id` and `name`."""
    function = {"arguments": arguments} | ({"name": first["name"]} if "name" in first else {})
    return {"index": index, "function": function} | (
        {"id": first["id"], "type": "function"} if "id" in first else {}
    )


def sent(translated: Translated) -> dict:
    """The body that the engine gets."""
    return msgspec.json.decode(translated.body)


def told(dialect: Dialect, asked: Translated, pieces: list[bytes]) -> bytes:
    """All that the caller gets of a stream that came in these pieces."""
    stream = dialect.stream(asked, INFO)
    return b"".join(map(stream.feed, pieces)) + stream.end()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes, cut there."""
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


class World:
    """`answer` is the engine's status and body, for each request. `asked` are the requests as the engine got them."""

    def __init__(self, dialect: Dialect, answer: Callable[[Translated], tuple[int, bytes]]) -> None:
        self.dialect, self.answer = dialect, answer
        self.asked: list[Translated] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [
            line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length")
        ]
        body = await reader.readexactly(int(lengths[0]))
        status, kind, payload = self._translate(head.split()[1].partition("?")[0], body)
        writer.write(b"HTTP/1.1 %d X\r\ncontent-type: %s\r\nconnection: close\r\n\r\n" % (status, kind))
        writer.write(payload)
        await writer.drain()
        writer.close()

    def _translate(self, path: str, body: bytes) -> tuple[int, bytes, bytes]:
        asked = self.dialect.request(path, body)
        self.asked.append(asked)
        status, answer = self.answer(asked) if asked.path else (200, b"")
        if asked.streams and asked.path and status == 200:
            pieces = cut(answer, list(range(0, len(answer), 7)))
            return 200, self.dialect.content_type(True), told(self.dialect, asked, pieces)
        status, payload = self.dialect.whole(status, answer, asked, INFO)
        return status, self.dialect.content_type(False), payload


@asynccontextmanager
async def served(world: World) -> AsyncIterator[str]:
    """Its URL, on a free port of the loopback."""
    server = await asyncio.start_server(world.serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
