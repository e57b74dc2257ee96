"""The events of a streamed message."""

from __future__ import annotations

import orjson

from penstock.gateway.dialects.anthropic.answer import error_body, message_id, stop, usage
from penstock.gateway.dialects.dialect import Body
from penstock.gateway.dialects.openai import Choice, Completion, ToolCall, Usage
from penstock.gateway.dialects.stream import EngineFault


class Events:
    """Anthropic's message is a list of blocks, of which one is open at a time; OpenAI's is a set of fields that grow."""

    def __init__(self, model: str, request_id: str) -> None:
        """`model` is the name that the caller said."""
        self._model = model
        self._request_id = request_id
        self._began = False
        self._index = -1
        self._open: str | int | None = None
        self._calls = 0
        self._last: Choice | None = None
        self._usage: Usage | None = None

    def chunk(self, chunk: Completion) -> bytes:
        """Raises EngineFault for a tool call that goes on after the next began, or that has no name."""
        told: list[bytes] = [] if self._began else [self._start(chunk)]
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.choices:
            choice = chunk.choices[0]
            said = choice.said
            if said.thought:
                told += self._grow("thinking", "thinking_delta", said.thought)
            if said.text:
                told += self._grow("text", "text_delta", said.text)
            for call in said.tool_calls or ():
                told += self._call(call)
            if choice.finish_reason is not None:
                self._last = choice
                told += self._close()
        return b"".join(told)

    def done(self) -> bytes:
        """Raises EngineFault if nobody said how the answer ended."""
        if self._last is None:
            raise EngineFault("the engine's stream ended without saying why")
        ended = stop(self._last, calls=self._calls > 0)
        delta = _event("message_delta", delta=ended, usage=usage(self._usage))
        return b"".join((*self._close(), delta, _event("message_stop")))

    def error(self, status: int, message: str) -> bytes:
        """The one event that may come at any place."""
        return b"event: error\ndata: " + error_body(status, message, self._request_id) + b"\n\n"

    def _start(self, chunk: Completion) -> bytes:
        self._began = True
        message: Body = {
            "id": message_id(chunk.id),
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage(chunk.usage),
        }
        return _event("message_start", message=message)

    def _grow(self, kind: str, delta: str, text: str) -> list[bytes]:
        told = []
        if self._open != kind:
            block = {"type": kind, kind: ""} | ({"signature": ""} if kind == "thinking" else {})
            told = self._begin(kind, block)
        told.append(self._delta({"type": delta, kind: text}))
        return told

    def _call(self, call: ToolCall) -> list[bytes]:
        told = []
        if self._open != call.index:
            if call.index < self._calls:
                raise EngineFault("the engine went on with a tool call after it had begun another")
            if not call.function.name:
                raise EngineFault("the engine began a tool call without its name")
            block = {"type": "tool_use", "id": call.id or f"toolu_{call.index}", "name": call.function.name}
            told = self._begin(call.index, block | {"input": {}})
            self._calls = call.index + 1
        if call.function.arguments:
            told.append(self._delta({"type": "input_json_delta", "partial_json": call.function.arguments}))
        return told

    def _begin(self, kind: str | int, block: Body) -> list[bytes]:
        told = self._close()
        self._index += 1
        self._open = kind
        told.append(_event("content_block_start", index=self._index, content_block=block))
        return told

    def _delta(self, delta: Body) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> list[bytes]:
        if self._open is None:
            return []
        self._open = None
        return [_event("content_block_stop", index=self._index)]


def _event(kind: str, **fields: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))
