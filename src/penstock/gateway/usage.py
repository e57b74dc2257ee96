"""Token usage as engines tell it: asked for in the request, read from the answer while it passes, never delaying it.

The fast path of a piece is one search for a few bytes; nothing is parsed but the usage object itself. A quote inside a JSON string
is always escaped, so `"usage":{` cannot come from what a model wrote.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

MAX_USAGE_BYTES = 4096
"""The longest usage object, and the longest event that is held back and stripped; longer ones pass unread."""

_OBJECT = rb"\{[^{}]*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}[^{}]*)*\}"
_USAGE = re.compile(rb'"usage"\s*:\s*(' + _OBJECT + rb")")
_TOLD = re.compile(rb'"usage"\s*:\s*\{')
_EVAL = re.compile(rb'"(prompt_eval_count|eval_count)"\s*:\s*(\d+)')
_EVENT_END = re.compile(rb"\n\r?\n")
_ENDS = (b"\n\n", b"\n\r\n")
_DONE = re.compile(rb"(?:^|\n)data: ?\[DONE\]\r?\n\r?\n\Z")
_NO_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_A_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*[^\]\s]')


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    """OpenAI's usage (chat, completions, embeddings, responses) and Anthropic's; what is absent stays None."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None


_DECODER = msgspec.json.Decoder(_Usage)


class Usage:
    """Token counts of one answer; -1 where the engine told nothing. Later news replace earlier ones, field by field.

    `prompt_tokens` holds the cached ones too, as OpenTelemetry counts; Anthropic tells them apart, so they are added up.
    """

    __slots__ = ("cached_tokens", "completion_tokens", "prompt_tokens")

    def __init__(self) -> None:
        """Nothing is known."""
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = -1

    @property
    def known(self) -> bool:
        """Whether the engine told anything."""
        return self.prompt_tokens >= 0 or self.completion_tokens >= 0

    def read(self, data: bytes) -> None:
        """Take in each usage object of OpenAI's or Anthropic's shape; one that is malformed says nothing."""
        place = data.find(b'"usage"')
        if place < 0:
            return
        for match in _USAGE.finditer(data, place):
            try:
                told = _DECODER.decode(match[1])
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            prompt = told.prompt_tokens if told.prompt_tokens is not None else told.input_tokens
            completion = told.completion_tokens if told.completion_tokens is not None else told.output_tokens
            details = told.prompt_tokens_details or told.input_tokens_details
            cached = told.cache_read_input_tokens if details is None else details.cached_tokens
            if prompt is not None and told.prompt_tokens is None:
                prompt += (told.cache_read_input_tokens or 0) + (told.cache_creation_input_tokens or 0)
            if told.total_tokens is not None:
                prompt = told.total_tokens if prompt is None else prompt
                completion = max(0, told.total_tokens - prompt) if completion is None else completion
            if prompt is not None:
                self.prompt_tokens = prompt
            if completion is not None:
                self.completion_tokens = completion
            if cached is not None:
                self.cached_tokens = cached

    def read_eval(self, data: bytes) -> None:
        """Take in Ollama's counts."""
        for name, count in _EVAL.findall(data):
            if name == b"eval_count":
                self.completion_tokens = int(count)
            else:
                self.prompt_tokens = int(count)


class WholeUsage(Usage):
    """Reads an answer that is one JSON document, or Ollama's lines of them, while its pieces pass."""

    __slots__ = ("_is_ollama", "_tail")

    def __init__(self, *, ollama: bool = False) -> None:
        """`ollama`: the counts stand among the other members, not in an object of their own."""
        super().__init__()
        self._is_ollama = ollama
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        """Pass a piece on as it is; a usage object that is cut between pieces is read too."""
        window = self._tail + data
        if not self._is_ollama:
            self.read(window)
        elif b'eval_count"' in window:
            self.read_eval(window)
        self._tail = window[-MAX_USAGE_BYTES:]
        return data

    def finish(self) -> bytes:
        """The answer ended. Nothing was held back."""
        return b""


class StreamUsage(Usage):
    """Reads a stream of server-sent events while its pieces pass.

    With `strip` the gateway has asked for usage and the caller has not: the event that tells it (no choices, a usage object) is taken
    out, however the pieces are cut. To that end the beginning of an event may be held back, of at most MAX_USAGE_BYTES, as long as it
    could become that event; a whole event never is. `done` says whether `[DONE]` was seen. Events end with LF LF, CR LF CR LF, or a
    mixture; CR alone, which the standard allows too, ends none.
    """

    __slots__ = ("_holds", "_open", "_strip", "done", "stripped")

    def __init__(self, *, strip: bool = False) -> None:
        """`strip`: the caller does not expect an event of usage."""
        super().__init__()
        self.done = False
        self.stripped = 0
        self._strip = strip
        self._open = b""
        self._holds = False

    @property
    def at_boundary(self) -> bool:
        """Whether what was passed on ends with a whole event, so that a further one may follow."""
        return not self._open or self._holds

    def feed(self, data: bytes) -> bytes:
        """What may be passed on now: `data`, unless there is something to strip or hold."""
        if self._open or not data.endswith(_ENDS) or (b'"usage"' in data and _TOLD.search(data)):
            return self._feed_slowly(data)
        if b"[DONE]" in data[-12:]:
            self.done = _DONE.search(data) is not None
        return data

    def finish(self) -> bytes:
        """The stream ended: what was held back, which is the beginning of an event that never came to its end."""
        held = self._open if self._holds else b""
        self._holds = False
        return held

    def _feed_slowly(self, data: bytes) -> bytes:
        """`_open` is the unfinished event so far, or its end where it is long; it has been passed on unless `_holds`."""
        joined = self._open + data
        passed = 0 if self._holds else len(self._open)
        self.read(joined)
        if b"[DONE]" in joined:
            self.done = _DONE.search(joined) is not None
        kept, place = [], 0
        begun = passed > 0
        for match in _EVENT_END.finditer(joined):
            event = joined[place : match.end()]
            if self._strip and not begun and _tells_usage(event):
                self.stripped += 1
                event = event[: len(event) - len(event.lstrip(b"\r\n"))]
            kept.append(event)
            place, begun = match.end(), False
        rest = joined[place:]
        if not rest.strip(b"\r\n") and not begun:
            kept.append(rest)
            rest = b""
        self._holds = self._strip and bool(rest) and not begun and _may_tell_usage(rest)
        if not self._holds:
            kept.append(rest)
        self._open = rest if self._holds else rest[-MAX_USAGE_BYTES:]
        return b"".join(kept)[passed:]


def _tells_usage(event: bytes) -> bool:
    return (
        _may_tell_usage(event) and _NO_CHOICE.search(event) is not None and _USAGE.search(event) is not None
    )


def _may_tell_usage(start: bytes) -> bool:
    """Whether an event with this beginning can be the one of usage; once it cannot, no continuation can."""
    start = start.lstrip(b"\r\n")
    if len(start) > MAX_USAGE_BYTES or not (start.startswith(b"data:") or b"data:".startswith(start)):
        return False
    return _A_CHOICE.search(start) is None


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_COLON = re.compile(rb"\s*:\s*")
_SCALAR = re.compile(rb"[^\s,}\]]+")


def ask_for_usage(body: bytes) -> bytes | None:
    """A streaming OpenAI request that asks for usage; None where it does already, or where its `stream_options` is no object.

    `body` is a JSON object that has been found to be well-formed and not empty. Every byte but the member's own stays as it was.
    """
    options = _member(body, b'"stream_options"') if b'"stream_options"' in body else None
    if options is None:
        end = body.rindex(b"}")
        return body[:end] + b',"stream_options":{"include_usage":true}' + body[end:]
    value = body[slice(*options)]
    if value == b"null":
        asked = b'{"include_usage":true}'
    elif value[:1] != b"{":
        return None
    else:
        asked = _asked(value)
    return None if asked == value else body[: options[0]] + asked + body[options[1] :]


def _asked(options: bytes) -> bytes:
    """The object with `include_usage` true."""
    span = _member(options, b'"include_usage"')
    if span is not None:
        return options[: span[0]] + b"true" + options[span[1] :]
    comma = b"," if options[1:-1].strip() else b""
    return b'{"include_usage":true' + comma + options[1:]


def _member(text: bytes, key: bytes) -> tuple[int, int] | None:
    """Where the value of a member of a well-formed object stands; of several the last, as in the decoders that engines use."""
    depth, start, found = 0, -1, None
    for token in _TOKEN.finditer(text):
        first = token[0][:1]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
            if depth == 1 and start >= 0:
                found, start = (start, token.end()), -1
        elif depth == 1 and start < 0 and token[0] == key:
            colon = _COLON.match(text, token.end())
            if colon is None:
                continue
            scalar = text[colon.end() : colon.end() + 1]
            if scalar in (b"{", b"["):
                start = colon.end()
            else:
                end = _TOKEN.match(text, colon.end()) or _SCALAR.match(text, colon.end())
                assert end is not None, "the body was found to be well-formed"
                found = (colon.end(), end.end())
    return found
