"""Reads a caller's body into a struct; what is wrong is told with its field's path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from penstock.kit.errors import InvalidInput, nearest

T = TypeVar("T")
_PLACE = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_EXPECTED = re.compile(r"^Expected (.+), got (.+)$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(.+)`$", re.DOTALL)


def read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Raises InvalidInput: `messages[0].content`, what was found there, and what was expected."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"the body is not JSON: {error}",
            code="invalid_json",
            hint="send a JSON object with content-type application/json",
        ) from None
    except RecursionError:
        raise InvalidInput("the body is nested too deeply", code="invalid_json") from None


def wrong(path: str, found: str, expected: str, *, code: str = "invalid_value") -> InvalidInput:
    """One field's error."""
    return InvalidInput(f"'{path}': found {found}, expected {expected}", code=code)


def missing(path: str, expected: str) -> InvalidInput:
    """A field that has to be there."""
    return wrong(path, "nothing", expected, code="missing_field")


def unknown(path: str, found: str, known: Sequence[str]) -> InvalidInput:
    """A word that is none of those which are understood here."""
    close = nearest(found, list(known), 1)
    return InvalidInput(
        f"'{path}': found '{found[:100]}', expected one of {', '.join(known)}",
        code="invalid_value",
        hint=f"did you mean '{close[0]}'?" if close else "",
    )


def _invalid(text: str) -> InvalidInput:
    match = _PLACE.match(text)
    assert match is not None, "the pattern takes any text"
    said, place = match[1], match[2] or ""
    if absent := _MISSING.match(said):
        return missing(f"{place}.{absent[1]}".lstrip("."), "a value: the field is required")
    if types := _EXPECTED.match(said):
        found, expected = types[2].strip("`"), types[1].strip("`")
        if not place:
            return InvalidInput(f"the body: found {found}, expected {expected}", code="invalid_json")
        return wrong(place, found, expected)
    return InvalidInput(f"'{place}': {said}" if place else said, code="invalid_value")
