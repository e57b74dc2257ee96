"""An engine's complete answer, and whatever went wrong, in Ollama's words."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from penstock.gateway.dialects.dialect import Body, CallInfo, Translated
from penstock.gateway.dialects.ollama.request import CHAT, EMBED, EMBEDDINGS
from penstock.gateway.dialects.openai import (
    COMPLETION,
    FAILURES,
    Choice,
    Completion,
    Embeddings,
    ToolCall,
    Usage,
    error_text,
)
from penstock.gateway.dialects.openai import (
    EMBEDDINGS as VECTORS,
)
from penstock.kit.timestamps import rfc3339

_UNREADABLE = 502
_NS = 1_000_000_000


def whole(status: int, body: bytes, asked: Translated, info: CallInfo) -> tuple[int, bytes]:
    """Status and body for the caller."""
    if status >= 400:
        return status, error_body(error_text(body))
    try:
        if asked.asked in (EMBED, EMBEDDINGS):
            return 200, orjson.dumps(_embeddings(VECTORS.decode(body), asked, info))
        if not asked.path:
            return 200, orjson.dumps(_loaded(asked, info)) + b"\n"
        return 200, orjson.dumps(_answer(COMPLETION.decode(body), asked, info))
    except (*FAILURES, ValueError) as error:
        return _UNREADABLE, error_body(f"the engine's answer cannot be read: {error}")


def error_body(message: str) -> bytes:
    """The whole body, and also the last line of a stream that failed."""
    return orjson.dumps({"error": message})


def head(asked: Translated, info: CallInfo) -> Body:
    """What every answer and every line begins with."""
    return {"model": asked.model, "created_at": rfc3339(info.created)}


def said(asked: Translated, text: str, thought: str = "", calls: list[Body] | None = None) -> Body:
    """The content, which chat and generate put into different places."""
    thinking = {"thinking": thought} if thought else {}
    if asked.asked != CHAT:
        return {"response": text, **thinking}
    return {
        "message": {
            "role": "assistant",
            "content": text,
            **thinking,
            **({"tool_calls": calls} if calls else {}),
        }
    }


def final(finish: str, usage: Usage | None, first_s: float, total_s: float) -> Body:
    """What ends an answer: times in nanoseconds. `first_s` is when its first piece came, and the prompt was read until then."""
    usage = usage or Usage()
    return {
        "done": True,
        "done_reason": "stop" if finish == "tool_calls" else finish,
        "total_duration": round(total_s * _NS),
        "load_duration": 0,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": round(first_s * _NS),
        "eval_count": usage.completion_tokens or 0,
        "eval_duration": round((total_s - first_s) * _NS),
    }


def logprobs(choice: Choice) -> Body:
    """Told as OpenAI tells them."""
    found = bytes(choice.logprobs.content) if choice.logprobs else b""
    return {"logprobs": orjson.Fragment(found)} if found not in (b"", b"null", b"[]") else {}


def tool_calls(calls: Iterable[ToolCall], finish: str | None) -> list[Body]:
    """Raises ValueError for arguments that are not a JSON object; those that `num_predict` cut are left out."""
    found = []
    for call in calls:
        arguments = call.function.arguments or "{}"
        if _is_object(arguments):
            function = {"name": call.function.name or "", "arguments": orjson.Fragment(arguments)}
            found.append(({"id": call.id} if call.id else {}) | {"function": function})
        elif finish != "length":
            raise ValueError(f"the arguments of its tool call are not a JSON object: {arguments[:100]}")
    return found


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _answer(found: Completion, asked: Translated, info: CallInfo) -> Body:
    """Nobody says when the first token came, so all the time counts as the answer's."""
    if not found.choices:
        raise ValueError("it has no choices")
    choice = found.choices[0]
    message, total_s = choice.said, info.elapsed_s()
    finish = choice.finish_reason or "stop"
    body = said(asked, message.text, message.thought, tool_calls(message.tool_calls or (), finish))
    return head(asked, info) | body | logprobs(choice) | final(finish, found.usage, 0.0, total_s)


def _loaded(asked: Translated, info: CallInfo) -> Body:
    return head(asked, info) | said(asked, "") | {"done": True, "done_reason": "load"}


def _embeddings(found: Embeddings, asked: Translated, info: CallInfo) -> Body:
    vectors = [item.embedding for item in sorted(found.data, key=lambda item: item.index)]
    if asked.asked == EMBEDDINGS:
        if not vectors:
            raise ValueError("it has no vector")
        return {"embedding": vectors[0]}
    return {
        "model": asked.model,
        "embeddings": vectors,
        "total_duration": round(info.elapsed_s() * _NS),
        "load_duration": 0,
        "prompt_eval_count": found.usage.prompt_tokens,
    }
