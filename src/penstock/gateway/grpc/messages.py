"""What the gateway reads and writes of the open inference protocol's messages: the model's name, and its own answers.

Protocol Buffers' wire format (https://protobuf.dev/programming-guides/encoding/), field numbers from `inference.GRPCInferenceService`.
A message is a row of fields in any order; of a text that stands twice the last one counts. Nothing else is read, so what later
versions of the protocol add passes as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.kit.protobuf import BYTES, FIXED_BYTES, VARINT, malformed, read_varint, text_field

SERVICE = "/inference.GRPCInferenceService/"
NAMES_MODEL = frozenset(
    SERVICE + method
    for method in (
        "ModelInfer", "ModelStreamInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics",
    )
)  # fmt: skip
"""Methods whose messages say the model in field 1. The last two are Triton's, as is ModelStreamInfer."""
MODEL_FIELD = 1


def model_of(message: bytes) -> str:
    """The model that the message names, "" if it names none. Raises InvalidInput for what is no message."""
    spans = list(_names(message))
    try:
        return message[slice(*spans[-1][1:])].decode() if spans else ""
    except UnicodeDecodeError:
        raise malformed("the model's name is not UTF-8") from None


def with_model(message: bytes, model: str) -> bytes:
    """The message with this name instead of its own; all else as it is, byte for byte. Raises InvalidInput."""
    kept, end = [], 0
    for start, _, stop in _names(message):
        kept.append(message[end:start])
        end = stop
    return text_field(MODEL_FIELD, model) + b"".join(kept) + message[end:]


def flag(value: bool) -> bytes:
    """ServerLiveResponse and ServerReadyResponse: field 1, which is left out where it is false."""
    return b"\x08\x01" if value else b""


def _names(message: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each field with the model's name begins, where its text does, and where both end."""
    at, size = 0, len(message)
    while at < size:
        start = at
        tag, at = read_varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            _, at = read_varint(message, at)
        elif kind == BYTES:
            length, at = read_varint(message, at)
            if tag >> 3 == MODEL_FIELD and at + length <= size:
                yield start, at, at + length
            at += length
        elif kind in FIXED_BYTES:
            at += FIXED_BYTES[kind]
        else:
            raise malformed(f"a field has the wire type {kind}")
        if tag >> 3 == 0 or at > size:
            raise malformed("a field has the number 0" if at <= size else "its last field is cut off")
