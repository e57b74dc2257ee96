"""An engine's complete answer, and whatever went wrong, in Anthropic's words."""

from __future__ import annotations

import orjson

from penstock.gateway.dialects.anthropic.request import COUNT_TOKENS
from penstock.gateway.dialects.dialect import Body, Translated
from penstock.gateway.dialects.openai import (
    COMPLETION,
    FAILURES,
    TOKEN_COUNT,
    Choice,
    Completion,
    ToolCall,
    Usage,
    error_text,
)

_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOP_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_UNREADABLE = 502


def whole(status: int, body: bytes, asked: Translated, request_id: str) -> tuple[int, bytes]:
    """Status and body for the caller."""
    if status >= 400:
        return status, error_body(status, _reason(status, body, asked), request_id)
    try:
        if asked.asked == COUNT_TOKENS:
            return 200, orjson.dumps({"input_tokens": TOKEN_COUNT.decode(body).count})
        return 200, orjson.dumps(_message(COMPLETION.decode(body), asked))
    except (*FAILURES, ValueError) as error:
        text = f"the engine's answer cannot be read: {error}"
        return _UNREADABLE, error_body(_UNREADABLE, text, request_id)


def error_object(status: int, message: str) -> Body:
    """The inner object of Anthropic's error."""
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": kind, "message": message}


def error_body(status: int, message: str, request_id: str) -> bytes:
    """The whole body."""
    return orjson.dumps(
        {"type": "error", "error": error_object(status, message), "request_id": request_id or None}
    )


def message_id(engine_id: str) -> str:
    """The engine's own id as Anthropic writes one, so that both can be found in logs."""
    return "msg_" + engine_id.removeprefix("chatcmpl-")


def usage(found: Usage | None) -> Body:
    """Anthropic counts tokens read from a cache beside the others, OpenAI among them."""
    found = found or Usage()
    return {
        "input_tokens": max(0, found.prompt_tokens - found.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": found.cached,
        "output_tokens": found.completion_tokens or 0,
    }


def stop(choice: Choice, *, calls: bool) -> Body:
    """`stop_reason` and `stop_sequence`; some engines say `stop` where they called a tool."""
    sequence = choice.stop_string if choice.finish_reason == "stop" else None
    if sequence is not None:
        reason = "stop_sequence"
    elif calls and choice.finish_reason == "stop":
        reason = "tool_use"
    else:
        reason = _STOP_REASONS.get(choice.finish_reason or "", "end_turn")
    return {"stop_reason": reason, "stop_sequence": sequence}


def _message(found: Completion, asked: Translated) -> Body:
    if not found.choices:
        raise ValueError("it has no choices")
    choice = found.choices[0]
    said = choice.said
    calls = said.tool_calls or []
    content: list[Body] = []
    if said.thought:
        content.append({"type": "thinking", "thinking": said.thought, "signature": ""})
    if said.text:
        content.append({"type": "text", "text": said.text})
    cut = choice.finish_reason == "length"
    content += [_tool_use(call, index, cut=cut) for index, call in enumerate(calls)]
    return {
        "id": message_id(found.id),
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": content,
        **stop(choice, calls=bool(calls)),
        "usage": usage(found.usage),
    }


def _tool_use(call: ToolCall, index: int, *, cut: bool) -> Body:
    """The arguments of a call that `max_tokens` cut are no JSON: they are left out, and the stop reason says why."""
    arguments = call.function.arguments or "{}"
    try:
        is_object = isinstance(orjson.loads(arguments), dict)
    except orjson.JSONDecodeError:
        is_object = False
    if not is_object and not cut:
        raise ValueError(f"the arguments of its tool call are not a JSON object: {arguments[:100]}")
    return {
        "type": "tool_use",
        "id": call.id or f"toolu_{index}",
        "name": call.function.name or "",
        "input": orjson.Fragment(arguments if is_object else "{}"),
    }


def _reason(status: int, body: bytes, asked: Translated) -> str:
    if asked.asked == COUNT_TOKENS and status in (404, 405, 501):
        return f"the engine of the model '{asked.model}' does not offer the counting of tokens: {error_text(body)}"
    return error_text(body)
