"""google.protobuf.Struct, which is JSON as a message: what Envoy calls metadata.

Struct: 1 fields (a map: 1 key, 2 value). Value: 1 null, 2 number, 3 string, 4 bool, 5 struct, 6 list. ListValue: 1 values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.kit.protobuf import Value, bytes_field, double, fields, malformed, text_field

MAX_DEPTH = 16
"""Structures within structures beyond this are refused: nobody sends them but to harm."""


def read_struct(message: bytes, depth: int = 0) -> dict[str, Any]:
    """As JSON would have it; of a key that stands twice the last counts. Raises InvalidInput."""
    found: dict[str, Any] = {}
    for number, entry in fields(message):
        if number == 1 and isinstance(entry, bytes):
            key, value = map_entry(entry)
            found[key] = _value(value, depth)
    return found


def map_entry(entry: bytes) -> tuple[str, bytes]:
    """Key and value of one entry of a map from texts to messages."""
    key, value = "", b""
    for number, part in fields(entry):
        if isinstance(part, bytes):
            if number == 1:
                key = part.decode("utf-8", "replace")
            elif number == 2:
                value = part
    return key, value


def struct(members: Mapping[str, str | Mapping[str, Any]]) -> bytes:
    """A Struct whose values are texts or further such structures."""
    return b"".join(
        bytes_field(1, text_field(1, key) + bytes_field(2, _told(value))) for key, value in members.items()
    )


def _told(value: str | Mapping[str, Any]) -> bytes:
    return text_field(3, value) if isinstance(value, str) else bytes_field(5, struct(value))


def _value(message: bytes, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise malformed(f"its structures are deeper than {MAX_DEPTH}")
    found: Any = None
    for number, value in fields(message):
        found = _of_kind(number, value, depth)
    return found


def _of_kind(number: int, value: Value, depth: int) -> Any:
    if number == 4 and isinstance(value, int):
        return bool(value)
    if not isinstance(value, bytes):
        return None
    if number == 2:
        return double(value) if len(value) == 8 else None
    if number == 3:
        return value.decode("utf-8", "replace")
    if number == 5:
        return read_struct(value, depth + 1)
    if number == 6:
        return [_value(one, depth + 1) for n, one in fields(value) if n == 1 and isinstance(one, bytes)]
    return None
