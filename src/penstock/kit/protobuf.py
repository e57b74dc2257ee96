"""Protocol Buffers' wire format, without schemas: rows of numbered fields (https://protobuf.dev/programming-guides/encoding/).

Whoever reads a message takes the fields that it knows by their numbers and leaves the others, so what later versions add does no harm.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from penstock.kit.errors import InvalidInput

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types. Groups (3 and 4) are taken from nobody."""
MAX_VARINT_BYTES = 10
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}

_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))

Value = int | bytes


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Each field's number and value, in order; what is fixed in size comes as its bytes. Raises InvalidInput for what is no message."""
    at, size = 0, len(message)
    while at < size:
        tag, at = read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise malformed("a field has the number 0")
        if kind == VARINT:
            value, at = read_varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = read_varint(message, at)
        elif kind in FIXED_BYTES:
            length = FIXED_BYTES[kind]
        else:
            raise malformed(f"a field has the wire type {kind}")
        end = at + length
        if end > size:
            raise malformed("its last field is cut off")
        yield number, message[at:end]
        at = end


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends. Raises InvalidInput."""
    if at < len(data) and data[at] < 0x80:  # nearly all of them
        return data[at], at + 1
    value = 0
    for index, byte in enumerate(data[at : at + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise malformed("a number is cut off")


def varint(value: int) -> bytes:
    """A number that is not negative."""
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number_field(number: int, value: int) -> bytes:
    """One field that holds a number, a truth value or a member of an enumeration; nothing for 0, which is what its absence means."""
    return varint(number << 3 | VARINT) + varint(value) if value else b""


def bytes_field(number: int, data: bytes) -> bytes:
    """One field that holds bytes, or a message."""
    return varint(number << 3 | BYTES) + varint(len(data)) + data


def text_field(number: int, text: str) -> bytes:
    """One field that holds a text."""
    return bytes_field(number, text.encode())


def double(data: bytes) -> float:
    """The number in eight bytes."""
    return float(struct.unpack("<d", data)[0])


def malformed(reason: str) -> InvalidInput:
    """What is raised for bytes that are no message."""
    return InvalidInput(f"the message is no Protocol Buffers message: {reason}", code="bad_message")
