"""What the gateway needs from a JSON body, and the values that it may replace in it.

A small body is decoded in one call that skips what is not asked for (1 MB in about 1 ms). A large one is scanned in slices,
so that other requests get their turn between them.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Generator
from typing import Any

import msgspec
import orjson
from msgspec import Raw, Struct

from penstock.kit.errors import InvalidInput

LARGE_BYTES = 1 << 20
SLICE_BYTES = 1 << 18
SLICE_STEPS = 4096
"""Brackets, or quotes within strings, that are looked at without a pause."""
LONG_BYTES, HEAD_BYTES, LOOKS = 1024, 64, 16
"""Of values that are looked for where they stand."""
RUN_BYTES = 64
"""Backslashes that are looked at at once."""
MAX_VALUE_BYTES = 1 << 16
"""A longer value of a field that the gateway reads is none that an engine would take."""


class ModelRequest(Struct):
    """The fields of a request that the gateway reads; all others are skipped, not built.

    What is Raw is known by where it stands in the body only, and may be any JSON: what prompts are made of (in OpenAI's words, and
    Anthropic's `system`), and what is said about them.
    """

    model: Any = None
    stream: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    stream_options: Any = None
    messages: Raw = Raw()
    prompt: Raw = Raw()
    input: Raw = Raw()
    system: Raw = Raw()
    instructions: Raw = Raw()
    tools: Raw = Raw()
    cache_salt: Raw = Raw()
    prompt_cache_key: Raw = Raw()
    service_tier: Raw = Raw()

    @property
    def token_limit(self) -> int:
        """How many tokens the caller wants at most, 0 where it does not say."""
        value = self.max_completion_tokens or self.max_tokens
        return value if type(value) is int and value > 0 else 0

    @property
    def wants_usage(self) -> bool:
        """Whether the caller itself asked for usage at the end of a stream."""
        return isinstance(self.stream_options, dict) and self.stream_options.get("include_usage") is True


Member = tuple[bytes, int, int]
"""A key as written between its quotes, and where its value begins and ends."""
_DECODER = msgspec.json.Decoder(ModelRequest)
_FIELDS = {name.encode(): name for name in ModelRequest.__struct_fields__}
_SPANS = frozenset(field.name for field in msgspec.structs.fields(ModelRequest) if field.type is Raw)
_NOTHING = ModelRequest()
_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+', re.DOTALL)
"""What lies between two brackets, with whole strings."""
_MODEL = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*")')
_SCALAR = re.compile(rb"[^\s,\]}]+")


def read(body: bytes) -> ModelRequest:
    """The request. Raises InvalidInput for what is not a JSON object with a `model`."""
    try:
        request = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(_reason(body, error)) from None
    return request if type(request.model) is str and request.model else _with_a_model(request)


def peek(body: bytes) -> ModelRequest:
    """What can be read of a body that need not be JSON, for the service is known: the engine judges it."""
    try:
        return _DECODER.decode(body) if len(body) <= LARGE_BYTES else _NOTHING
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NOTHING


async def read_large(body: bytes) -> ModelRequest:
    """What `read` does, for a body beyond LARGE_BYTES; only its top level is checked, the rest is the engine's to judge."""
    return _with_a_model(await _scanned(body))


async def peek_large(body: bytes) -> ModelRequest:
    """What `peek` does, for a body beyond LARGE_BYTES."""
    try:
        return await _scanned(body)
    except InvalidInput:
        return _NOTHING


async def _scanned(body: bytes) -> ModelRequest:
    scan = members(body)
    while True:
        try:
            next(scan)
        except StopIteration as done:
            return _picked(body, done.value)
        await asyncio.sleep(0)


def with_model(body: bytes, model: str, asks: ModelRequest | None = None) -> bytes:
    """The body with the value of its top-level `model` replaced; every other byte stays as it was. It has been read.

    `asks` is what was read: what prompts are made of speaks of models too, and need not be searched for them then.
    """
    value = orjson.dumps(model)
    if b"\\u006" not in body:  # written plainly
        match = _only_model(body, asks or _NOTHING)
        if match is not None:
            return body[: match.start(1)] + value + body[match.end(1) :]
    return replaced(body, b"model", value)


def _only_model(body: bytes, asks: ModelRequest) -> re.Match[bytes] | None:
    """The one member of that name outside the long values of `asks`: no other can be meant. None where there is none, or several."""
    between, at, count = [], 0, 0
    for start, end in sorted(span for one in _SPANS if (span := _span(body, getattr(asks, one)))):
        between.append((at, start))
        at = max(at, end)
    between.append((at, len(body)))
    found = None
    for start, end in between:
        count += body.count(b'"model"', start, end)
        found = found or _MODEL.search(body, start, end)
    return found if count == 1 else None


def _span(body: bytes, value: Raw) -> tuple[int, int] | None:
    """Where a long value stands, looked for a few times."""
    view, start = memoryview(value), -1
    if len(view) < LONG_BYTES:
        return None
    head = bytes(view[:HEAD_BYTES])
    for _ in range(LOOKS):
        start = body.find(head, start + 1)
        if start < 0:
            return None
        if body[start : start + len(view)] == bytes(view):  # views are compared item by item
            return start, start + len(view)
    return None


def replaced(body: bytes, key: bytes, value: bytes) -> bytes:
    """The body with another value of a top-level key that it has. Of several the last counts, as in decoders of engines."""
    name = key.decode()
    spans = [(start, end) for found, start, end in all_members(body) if _text(found) == name]
    start, end = spans[-1]
    return body[:start] + value + body[end:]


def all_members(body: bytes) -> list[Member]:
    """The members of the top-level object, at once."""
    scan = members(body)
    while True:
        try:
            next(scan)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def members(body: bytes) -> Generator[None, None, list[Member]]:
    """The members of the top-level object; pauses after each slice. Raises InvalidInput where the top level is none."""
    found: list[Member] = []
    place = _next(body, _next(body, 0, b"{") + 1)
    while body[place : place + 1] != b"}":
        _next(body, place, b'"')
        after = yield from _string_end(body, place)
        start = _next(body, _next(body, after, b":") + 1)
        end = yield from _value_end(body, start)
        found.append((body[place + 1 : after - 1], start, end))
        place = _next(body, end)
        if body[place : place + 1] == b",":
            place = _next(body, place + 1, b'"')
        elif body[place : place + 1] != b"}":
            raise _invalid(f"expected ',' or '}}' at byte {place}")
    if _next(body, place + 1) != len(body):
        raise _invalid(f"there is more after its end at byte {place + 1}")
    return found


def _next(body: bytes, place: int, expected: bytes = b"") -> int:
    """The place of the next byte that is no white space; it must be `expected`."""
    match = _SPACE.match(body, place)
    place = match.end() if match else place
    if expected and body[place : place + 1] != expected:
        raise _invalid(f"expected {expected.decode()!r} at byte {place}")
    return place


def _string_end(body: bytes, place: int) -> Generator[None, None, int]:
    """Behind the closing quote of the string that begins at `place`."""
    at, slice_end, steps = place + 1, place + SLICE_BYTES, 0
    while True:
        quote = body.find(b'"', at, slice_end)
        if quote < 0:
            if slice_end >= len(body):
                raise _invalid("a string does not end")
            at, slice_end = max(at, slice_end), slice_end + SLICE_BYTES
            yield
            continue
        if body[quote - 1] != 0x5C or not _is_escaped(body, quote):
            return quote + 1
        at, steps = quote + 1, steps + 1
        if not steps % SLICE_STEPS:
            yield


def _is_escaped(body: bytes, quote: int) -> bool:
    """Whether the backslashes before it are odd."""
    before, run = quote, b""
    while not run:
        whole = body[max(0, before - RUN_BYTES) : before]
        run = whole.rstrip(b"\\")
        before -= len(whole) - len(run)
    return (quote - before) % 2 == 1


def _value_end(body: bytes, place: int) -> Generator[None, None, int]:
    first = body[place : place + 1]
    if first == b'"':
        return (yield from _string_end(body, place))
    if first not in (b"{", b"["):
        match = _SCALAR.match(body, place)
        if match is None:
            raise _invalid(f"expected a value at byte {place}")
        return match.end()
    depth, since, steps = 0, place, 0
    while True:
        stop, plain = place + SLICE_BYTES, _PLAIN.match(body, place, place + SLICE_BYTES)
        place, steps = plain.end() if plain else place, steps + 1
        mark = body[place : place + 1]
        if place < stop:
            if not mark:
                raise _invalid("an object or array does not end")
            if mark == b'"':
                place = yield from _string_end(body, place)
            else:
                place, depth = place + 1, depth + (1 if mark in (b"{", b"[") else -1)
                if not depth:
                    return place
        if place - since > SLICE_BYTES or steps >= SLICE_STEPS:
            since, steps = place, 0
            yield


def _picked(body: bytes, found: list[Member]) -> ModelRequest:
    values: dict[str, Any] = {}
    for key, start, end in found:
        name = _FIELDS.get(key) or _FIELDS.get(_text(key).encode())
        if name in _SPANS:
            values[name] = Raw(memoryview(body)[start:end])
        elif name and end - start <= MAX_VALUE_BYTES:
            try:
                values[name] = msgspec.json.decode(body[start:end])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise _invalid(f"{name!r}: {error}") from None
    return ModelRequest(**values)


def _text(key: bytes) -> str:
    """A key as it reads; most are written without escapes."""
    if b"\\" not in key:
        return key.decode(errors="replace")
    try:
        return str(json.loads(b'"' + key + b'"'))
    except ValueError:
        raise _invalid("a key is no string") from None


def _with_a_model(request: ModelRequest) -> ModelRequest:
    if not isinstance(request.model, str) or not request.model:
        found = "nothing" if request.model is None else type(request.model).__name__
        raise InvalidInput(
            f"'model': found {found}, expected the name of a model",
            code="missing_model",
            hint="see /v1/models",
        )
    return request


def _invalid(reason: str) -> InvalidInput:
    return InvalidInput(
        f"the body is not a JSON object: {reason}",
        code="invalid_json",
        hint="send a JSON object with content-type application/json",
    )


def _reason(body: bytes, error: Exception) -> str:
    """Where it breaks, in the words of a decoder that counts lines."""
    try:
        found = json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as precise:
        return str(precise)
    return f"found {type(found).__name__}" if not isinstance(found, dict) else str(error)
