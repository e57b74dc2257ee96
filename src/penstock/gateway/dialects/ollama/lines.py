"""The lines of a streamed answer."""

from __future__ import annotations

import orjson

from penstock.gateway.dialects.dialect import Body, CallInfo, Translated
from penstock.gateway.dialects.ollama.answer import error_body, final, head, logprobs, said, tool_calls
from penstock.gateway.dialects.openai import Completion, ToolCall, Usage
from penstock.gateway.dialects.stream import MAX_EVENT_BYTES, EngineFault

MAX_CALLS = 1024
"""As many as one answer may make."""


class Lines:
    """One JSON object a line. OpenAI streams tool calls in pieces, Ollama tells them when they are whole: with the answer's end."""

    def __init__(self, asked: Translated, info: CallInfo) -> None:
        """`info` tells the time."""
        self._asked = asked
        self._info = info
        self._head = head(asked, info)
        self._first_s: float | None = None
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._calls: dict[int, tuple[ToolCall, list[str]]] = {}
        self._size = 0

    def chunk(self, chunk: Completion) -> bytes:
        """Raises EngineFault for tool calls that cannot be read or held."""
        if self._first_s is None:
            self._first_s = self._info.elapsed_s()
        if chunk.usage is not None:
            self._usage = chunk.usage
        if not chunk.choices:
            return b""
        choice = chunk.choices[0]
        message, told, likely = choice.said, b"", logprobs(choice)
        if message.text or message.thought or likely:
            told = self._line(said(self._asked, message.text, message.thought) | likely)
        for call in message.tool_calls or ():
            self._grow(call)
        if choice.finish_reason is not None:
            self._finish = choice.finish_reason
        return told

    def done(self) -> bytes:
        """Raises EngineFault if nobody said how the answer ended."""
        if self._finish is None or self._first_s is None:
            raise EngineFault("the engine's stream ended without saying why")
        told = self._whole_calls()
        ended = final(self._finish, self._usage, self._first_s, self._info.elapsed_s())
        return told + orjson.dumps(self._head | said(self._asked, "") | ended) + b"\n"

    def error(self, status: int, message: str) -> bytes:
        """The status can no longer be told."""
        return error_body(message) + b"\n"

    def _grow(self, piece: ToolCall) -> None:
        _, arguments = self._calls.setdefault(piece.index, (piece, []))
        if piece.function.arguments:
            arguments.append(piece.function.arguments)
            self._size += len(piece.function.arguments)
        if self._size > MAX_EVENT_BYTES or len(self._calls) > MAX_CALLS:
            raise EngineFault("the engine's tool calls are longer than the gateway can hold")

    def _whole_calls(self) -> bytes:
        """Those that have grown. One that `num_predict` cut is left out: `done_reason` says why."""
        if not self._calls:
            return b""
        for call, arguments in self._calls.values():
            call.function.arguments = "".join(arguments)
        try:
            calls = tool_calls([call for call, _ in self._calls.values()], self._finish)
        except ValueError as error:
            raise EngineFault(f"the engine's answer cannot be read: {error}") from None
        return self._line(said(self._asked, "", calls=calls)) if calls else b""

    def _line(self, body: Body) -> bytes:
        return orjson.dumps(self._head | body | {"done": False}) + b"\n"
