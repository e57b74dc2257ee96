"""The head of a safetensors file: eight bytes that say how long it is, then JSON that says where each tensor lies. Nothing is unpickled.

Source: the safetensors format, as its own documentation gives it. The tensors themselves are never asked for.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

import msgspec

from penstock.kit.errors import InvalidInput

PREFIX_BYTES = 8
MAX_HEAD_BYTES = 100 << 20
"""The format's own limit."""
BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I8": 8, "U8": 8, "BOOL": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


class Tensor(NamedTuple):
    """What one tensor is, and how many bytes of the file it has."""

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


def head_bytes(prefix: bytes, name: str) -> int:
    """How long the JSON after the first eight bytes is. Raises InvalidInput, naming the file, for a length that cannot be."""
    length = int(struct.unpack("<Q", prefix)[0]) if len(prefix) == PREFIX_BYTES else 0
    if not 2 <= length <= MAX_HEAD_BYTES:
        raise _corrupt(name, f"its header cannot be {length} bytes long")
    return length


def tensors_of(head: bytes, name: str) -> dict[str, Tensor]:
    """The tensors that the JSON describes. Raises InvalidInput, naming the file, if it is none or contradicts itself."""
    try:
        document = msgspec.json.decode(head)
    except (msgspec.DecodeError, RecursionError):
        raise _corrupt(name, "its header is not JSON") from None
    if not isinstance(document, dict):
        raise _corrupt(name, "its header is not a JSON object")
    return {
        tensor: _tensor(name, tensor, described)
        for tensor, described in document.items()
        if tensor != "__metadata__"
    }


def _tensor(file: str, name: str, described: Any) -> Tensor:
    try:
        dtype, shape = str(described["dtype"]), tuple(described["shape"])
        start, end = described["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _corrupt(file, f"tensor {name[:80]!r} is not described as it should be") from None
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)) or end < start:
        raise _corrupt(file, f"tensor {name[:80]!r} has sizes that cannot be")
    bits = BITS.get(dtype)
    if bits is not None and (end - start) * 8 != math.prod(shape) * bits:
        raise _corrupt(file, f"tensor {name[:80]!r} is not as large as its shape says")
    return Tensor(dtype, shape, end - start)


def _corrupt(name: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"{name} is damaged or incomplete: {why}", code="corrupt_weights", hint="download the model again"
    )
