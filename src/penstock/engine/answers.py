"""OpenAI's answers: chunks of a stream, whole objects, and tool calls in a model's text."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple

from penstock.engine.runner import Generation, Generator
from penstock.engine.text import Stops, Vocabulary
from penstock.engine.wishes import Wish

_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


class Logprob(NamedTuple):
    """A token that was chosen, and where its text begins in the answer's, in characters."""

    token: str
    value: float
    offset: int


@dataclass(slots=True)
class Piece:
    """New text of one choice, or all of it; `finish` is OpenAI's reason or "", `stop` the stop string that ended it."""

    text: str = ""
    finish: str = ""
    stop: str = ""
    logprobs: list[Logprob] = field(default_factory=list)


async def pieces(
    engine: Generator, generation: Generation, text: Vocabulary, wish: Wish, start: int = 0
) -> AsyncGenerator[Piece, None]:
    """The answer's text as it comes: special tokens left out, cut exactly before a stop string. It is counted from `start`."""
    decode, stops, offset = text.decoder(), Stops(wish.stops), start
    async for update in engine.updates(generation):
        piece = Piece()
        for token, value in zip_longest(update.tokens, update.logprobs):
            if value is not None:
                piece.logprobs.append(Logprob(text.piece(token), value, offset))
            shown = decode(token)
            offset += len(shown)
            piece.text += stops.push(shown)
        if stops.stopped:
            engine.cancel(generation)
            piece.finish, piece.stop = "stop", stops.found
            yield piece
            return
        if update.finish:
            piece.text += stops.rest()
            piece.finish = "length" if update.finish in ("length", "out_of_memory") else "stop"
        if piece.text or piece.finish or piece.logprobs:
            yield piece


@dataclass(slots=True)
class Answer:
    """What all objects of one answer share."""

    model: str
    chat: bool
    id: str = ""
    created: int = 0

    def __post_init__(self) -> None:
        self.id = ("chatcmpl-" if self.chat else "cmpl-") + secrets.token_hex(12)
        self.created = int(time.time())

    def chunk(self, index: int, piece: Piece, *, first: bool, usage: bool) -> dict[str, Any]:
        """One event of a stream; `usage` says that the caller asked for it, and gets null until the last."""
        choice: dict[str, Any] = {"index": index}
        if self.chat:
            delta: dict[str, Any] = {"role": "assistant", "content": ""} if first else {}
            if piece.text:
                delta["content"] = piece.text
            choice["delta"] = delta
        else:
            choice["text"] = piece.text
        choice["logprobs"] = self._logprobs(piece.logprobs)
        choice |= {"finish_reason": piece.finish or None, "stop_reason": piece.stop or None}
        return self._object([choice], "chunk") | ({"usage": None} if usage else {})

    def tool_chunk(self, index: int, calls: list[dict[str, Any]]) -> dict[str, Any]:
        """All tool calls of a choice as one delta."""
        numbered = [{"index": i, **call} for i, call in enumerate(calls)]
        choice = {"index": index, "delta": {"tool_calls": numbered}, "logprobs": None, "finish_reason": None}
        return self._object([choice], "chunk")

    def usage_chunk(self, usage: dict[str, Any]) -> dict[str, Any]:
        """The last event before [DONE], if usage was asked for."""
        return self._object([], "chunk") | {"usage": usage}

    def whole(self, choices: list[Piece], usage: dict[str, Any], tools: bool) -> dict[str, Any]:
        """The complete object."""
        shaped = [self._choice(i, choice, tools=tools) for i, choice in enumerate(choices)]
        return self._object(shaped, "") | {"usage": usage}

    def _choice(self, index: int, whole: Piece, *, tools: bool) -> dict[str, Any]:
        """`stop_reason` is vLLM's word for the stop string."""
        shared = {
            "index": index,
            "logprobs": self._logprobs(whole.logprobs),
            "finish_reason": whole.finish,
            "stop_reason": whole.stop or None,
        }
        if not self.chat:
            return shared | {"text": whole.text}
        rest, calls = tool_calls(whole.text) if tools else (whole.text, [])
        message: dict[str, Any] = {
            "role": "assistant",
            "content": rest if rest or not calls else None,
            "refusal": None,
        }
        if calls:
            message["tool_calls"] = calls
            shared["finish_reason"] = "tool_calls"
        return shared | {"message": message}

    def _object(self, choices: list[dict[str, Any]], part: str) -> dict[str, Any]:
        kind = f"chat.completion{'.' + part if part else ''}" if self.chat else "text_completion"
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _logprobs(self, found: list[Logprob]) -> dict[str, Any] | None:
        if not found:
            return None
        if self.chat:
            rows = [
                {"token": token, "logprob": value, "bytes": list(token.encode()), "top_logprobs": []}
                for token, value, _ in found
            ]
            return {"content": rows, "refusal": None}
        tokens, values, offsets = map(list, zip(*found, strict=True))
        return {"tokens": tokens, "token_logprobs": values, "top_logprobs": None, "text_offset": offsets}


def usage_of(generations: list[Generation]) -> dict[str, Any]:
    """OpenAI's usage; a prompt that several choices share counts once."""
    prompts = {id(g.prompt): g for g in reversed(generations)}
    prompt = sum(len(g.prompt) for g in prompts.values())
    completion = sum(len(g.tokens) for g in generations)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(g.cached_tokens for g in prompts.values())},
    }


def tool_calls(text: str) -> tuple[str, list[dict[str, Any]]]:
    """The text without its well-formed tool calls (`<tool_call>{"name", "arguments"}</tool_call>`), and these."""
    calls = []
    for match in _CALL.finditer(text):
        try:
            call = json.loads(match[1])
        except ValueError:
            continue
        if isinstance(call.get("name"), str):
            arguments = call.get("arguments", {})
            arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
            function = {"name": call["name"], "arguments": arguments}
            calls.append({"id": f"call_{secrets.token_hex(8)}", "type": "function", "function": function})
    return (_CALL.sub("", text).strip() if calls else text), calls
