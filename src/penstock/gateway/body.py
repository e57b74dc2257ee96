"""What the gateway needs from a JSON body, and the one value that it may replace in it."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
from msgspec import Struct

from penstock.kit.errors import InvalidInput


class ModelRequest(Struct):
    """The fields of an OpenAI request that routing needs; all others are skipped, not built."""

    model: Any = None
    stream: Any = None


_DECODER = msgspec.json.Decoder(ModelRequest)
_WHITE = " \t\r\n"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def read(body: bytes) -> ModelRequest:
    """The request. Raises InvalidInput for what is not a JSON object with a `model`."""
    try:
        request = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"the body is not a JSON object: {_reason(body, error)}",
            code="invalid_json",
            hint="send a JSON object with content-type application/json",
        ) from None
    if not isinstance(request.model, str) or not request.model:
        found = "nothing" if request.model is None else type(request.model).__name__
        raise InvalidInput(
            f"'model': found {found}, expected the name of a model",
            code="missing_model",
            hint="see /v1/models",
        )
    return request


def with_model(body: bytes, model: str) -> bytes:
    """The body with the value of its top-level `model` replaced; every other byte stays as it was."""
    text = body.decode()
    spans = [span for key, *span in _members(text) if key == "model"]
    start, end = spans[-1]  # of several the last counts, as in the decoders that engines use
    return (text[:start] + json.dumps(model) + text[end:]).encode()


def _members(text: str) -> list[tuple[str, int, int]]:
    """Key and value span of each member of a top-level object that has been found to be well-formed."""
    members = []
    place = _skip(text, _skip(text, 0) + 1)
    while text[place] != "}":
        after = _string_end(text, place)
        key = json.loads(text[place:after])
        place = _skip(text, _skip(text, after) + 1)
        end = _value_end(text, place)
        members.append((key, place, end))
        place = _skip(text, end)
        if text[place] == ",":
            place = _skip(text, place + 1)
    return members


def _string_end(text: str, place: int) -> int:
    match = _STRING.match(text, place)
    assert match is not None, "the body was found to be well-formed"
    return match.end()


def _skip(text: str, place: int) -> int:
    while text[place] in _WHITE:
        place += 1
    return place


def _value_end(text: str, place: int) -> int:
    depth = 0
    while True:
        char = text[place]
        if char == '"':
            place = _string_end(text, place)
        elif char in "[{":
            depth += 1
            place += 1
        elif char in "]}" and depth:
            depth -= 1
            place += 1
        elif depth:
            place += 1
            continue
        else:
            while text[place] not in ",]}" + _WHITE:
                place += 1
        if not depth:
            return place


def _reason(body: bytes, error: Exception) -> str:
    """Where it breaks, in the words of a decoder that counts lines."""
    try:
        found = json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as precise:
        return str(precise)
    return f"found {type(found).__name__}" if not isinstance(found, dict) else str(error)
