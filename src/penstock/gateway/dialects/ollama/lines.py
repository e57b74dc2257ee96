"""The lines of a streamed answer."""

from __future__ import annotations

import orjson

from penstock.gateway.dialects.dialect import CallInfo, Translated
from penstock.gateway.dialects.ollama.answer import error_body, final, head, said, tool_call
from penstock.gateway.dialects.openai import Completion, ToolCall, Usage
from penstock.gateway.dialects.stream import MAX_EVENT_BYTES, EngineFault


class Lines:
    """One JSON object a line. OpenAI streams a tool call in pieces, Ollama tells it when it is whole."""

    def __init__(self, asked: Translated, info: CallInfo) -> None:
        """`info` tells the time."""
        self._asked = asked
        self._info = info
        self._head = head(asked, info)
        self._first_s: float | None = None
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._call: ToolCall | None = None
        self._arguments: list[str] = []
        self._size = 0

    def chunk(self, chunk: Completion) -> bytes:
        """Raises EngineFault for a tool call that makes no sense."""
        if self._first_s is None:
            self._first_s = self._info.elapsed_s()
        if chunk.usage is not None:
            self._usage = chunk.usage
        if not chunk.choices:
            return b""
        choice = chunk.choices[0]
        message, told = choice.said, b""
        if message.text or message.thought:
            told = self._line(message.text, message.thought)
        for call in message.tool_calls or ():
            told += self._grow(call)
        if choice.finish_reason is not None:
            self._finish = choice.finish_reason
            told += self._whole_call()
        return told

    def done(self) -> bytes:
        """Raises EngineFault if nobody said how the answer ended."""
        if self._finish is None or self._first_s is None:
            raise EngineFault("the engine's stream ended without saying why")
        ended = final(self._finish, self._usage, self._first_s, self._info.elapsed_s())
        return orjson.dumps(self._head | said(self._asked, "") | ended) + b"\n"

    def error(self, status: int, message: str) -> bytes:
        """The status can no longer be told."""
        return error_body(message) + b"\n"

    def _grow(self, piece: ToolCall) -> bytes:
        told = b""
        if self._call is None or piece.index != self._call.index:
            if self._call is not None and piece.index < self._call.index:
                raise EngineFault("the engine went on with a tool call after it had begun another")
            if not piece.function.name:
                raise EngineFault("the engine began a tool call without its name")
            told = self._whole_call()
            self._call, self._size = piece, 0
        arguments = piece.function.arguments or ""
        self._size += len(arguments)
        if self._size > MAX_EVENT_BYTES:
            raise EngineFault(f"the engine called a tool with more than {MAX_EVENT_BYTES} characters")
        self._arguments.append(arguments)
        return told

    def _whole_call(self) -> bytes:
        """The call that has grown. One that `num_predict` cut is left out: `done_reason` says why."""
        grown, self._call = self._call, None
        if grown is None:
            return b""
        grown.function.arguments = "".join(self._arguments)
        self._arguments.clear()
        try:
            call = tool_call(grown)
        except ValueError as error:
            if self._finish == "length":
                return b""
            raise EngineFault(f"the engine's answer cannot be read: {error}") from None
        return orjson.dumps(self._head | said(self._asked, "", calls=[call]) | {"done": False}) + b"\n"

    def _line(self, text: str, thought: str) -> bytes:
        return orjson.dumps(self._head | said(self._asked, text, thought) | {"done": False}) + b"\n"
