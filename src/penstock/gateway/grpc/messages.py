"""What the gateway reads and writes of the open inference protocol's messages: the model's name, and its own answers.

Protocol Buffers' wire format (https://protobuf.dev/programming-guides/encoding/), field numbers from `inference.GRPCInferenceService`.
A message is a row of fields in any order; of a text that stands twice the last one counts. Nothing else is read, so what later
versions of the protocol add passes as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.kit.errors import InvalidInput

SERVICE = "/inference.GRPCInferenceService/"
NAMES_MODEL = frozenset(
    SERVICE + method
    for method in (
        "ModelInfer", "ModelStreamInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics",
    )
)  # fmt: skip
"""Methods whose messages say the model in field 1. The last two are Triton's, as is ModelStreamInfer."""
MODEL_FIELD = 1
MAX_VARINT_BYTES = 10
_TEXT = 2
_FIXED_BYTES = {1: 8, 5: 4}


def model_of(message: bytes) -> str:
    """The model that the message names, "" if it names none. Raises InvalidInput for what is no message."""
    spans = list(_names(message))
    try:
        return message[slice(*spans[-1][1:])].decode() if spans else ""
    except UnicodeDecodeError:
        raise _malformed("the model's name is not UTF-8") from None


def with_model(message: bytes, model: str) -> bytes:
    """The message with this name instead of its own; all else as it is, byte for byte. Raises InvalidInput."""
    kept, end = [], 0
    for start, _, stop in _names(message):
        kept.append(message[end:start])
        end = stop
    return text_field(MODEL_FIELD, model) + b"".join(kept) + message[end:]


def text_field(number: int, text: str) -> bytes:
    """One field that holds a text."""
    data = text.encode()
    return _varint(number << 3 | _TEXT) + _varint(len(data)) + data


def flag(value: bool) -> bytes:
    """ServerLiveResponse and ServerReadyResponse: field 1, which is left out where it is false."""
    return b"\x08\x01" if value else b""


def _names(message: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each field with the model's name begins, where its text does, and where both end."""
    at, size = 0, len(message)
    while at < size:
        start = at
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _read_varint(message, at)
        elif kind == _TEXT:
            length, at = _read_varint(message, at)
            if tag >> 3 == MODEL_FIELD and at + length <= size:
                yield start, at, at + length
            at += length
        elif kind in _FIXED_BYTES:
            at += _FIXED_BYTES[kind]
        else:
            raise _malformed(f"a field has the wire type {kind}")
        if tag >> 3 == 0 or at > size:
            raise _malformed("a field has the number 0" if at <= size else "its last field is cut off")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise _malformed("a number is cut off")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _malformed(reason: str) -> InvalidInput:
    return InvalidInput(f"the message is no Protocol Buffers message: {reason}", code="bad_message")
