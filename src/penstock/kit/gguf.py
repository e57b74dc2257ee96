"""The head of a GGUF file, from its first bytes on: metadata and what tensors there are, never the tensors themselves.

Source: ggml's GGUF, version 2 and 3, little-endian: magic, version, two counts, key/value pairs, tensor descriptions, then the data from
the next multiple of `general.alignment` on. Bytes may come from anywhere, so every length is checked before it is believed.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

from penstock.kit.errors import InvalidInput

MAGIC = b"GGUF"
MAX_HEAD_BYTES = 64 << 20
MAX_ITEMS = 1 << 20
"""Of one list: the largest vocabularies have a quarter of it."""
MAX_ITEMS_OF_ALL = 1 << 22
MAX_TENSORS = 1 << 16
MAX_DIMENSIONS = 4
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9


class Block(NamedTuple):
    """How ggml stores a type: so many values in so many bytes."""

    name: str
    values: int
    size_bytes: int


BLOCKS = {
    0: Block("F32", 1, 4), 1: Block("F16", 1, 2), 2: Block("Q4_0", 32, 18), 3: Block("Q4_1", 32, 20), 6: Block("Q5_0", 32, 22),
    7: Block("Q5_1", 32, 24), 8: Block("Q8_0", 32, 34), 9: Block("Q8_1", 32, 36), 10: Block("Q2_K", 256, 84),
    11: Block("Q3_K", 256, 110), 12: Block("Q4_K", 256, 144), 13: Block("Q5_K", 256, 176), 14: Block("Q6_K", 256, 210),
    15: Block("Q8_K", 256, 292), 16: Block("IQ2_XXS", 256, 66), 17: Block("IQ2_XS", 256, 74), 18: Block("IQ3_XXS", 256, 98),
    19: Block("IQ1_S", 256, 50), 20: Block("IQ4_NL", 32, 18), 21: Block("IQ3_S", 256, 110), 22: Block("IQ2_S", 256, 82),
    23: Block("IQ4_XS", 256, 136), 24: Block("I8", 1, 1), 25: Block("I16", 1, 2), 26: Block("I32", 1, 4), 27: Block("I64", 1, 8),
    28: Block("F64", 1, 8), 29: Block("IQ1_M", 256, 56), 30: Block("BF16", 1, 2), 34: Block("TQ1_0", 256, 54),
    35: Block("TQ2_0", 256, 66), 39: Block("MXFP4", 32, 17),
}  # fmt: skip
"""By ggml's number of the type."""


class Tensor(NamedTuple):
    """`kind` is ggml's number of the type; `start` counts bytes from the beginning of the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int

    @property
    def size_bytes(self) -> int | None:
        """None for a type that is not known here."""
        block = BLOCKS.get(self.kind)
        return None if block is None else math.prod(self.shape) // block.values * block.size_bytes


class Head(NamedTuple):
    """What the head says; it ends at byte `size_bytes`."""

    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]
    size_bytes: int


class CutOff(Exception):
    """The head goes on beyond the bytes that were given."""


def read_head(data: Any, name: str) -> Head:
    """The head at the beginning of `data`, which is bytes or the like of it.

    Raises CutOff if there is less of it than its head needs, InvalidInput, naming the file, for what is no such head or too large.
    """
    cursor = _Cursor(name, data)
    if (magic := cursor.bytes(4)) != MAGIC:
        raise corrupt(name, f"it begins with {magic!r}, expected {MAGIC!r}")
    if (version := cursor.scalar("I")) not in (2, 3):
        raise InvalidInput(
            f"{name}: GGUF version {version}, expected 2 or 3 (little-endian)", code="unsupported_weights"
        )
    tensors, pairs = cursor.count("Q", MAX_TENSORS, "tensors"), cursor.count("Q", MAX_ITEMS, "keys")
    metadata = {}
    for _ in range(pairs):
        key = cursor.string()
        metadata[key] = cursor.value()
    return Head(metadata, tuple(_tensor(cursor) for _ in range(tensors)), cursor.at)


def corrupt(name: str, why: str) -> InvalidInput:
    """For a file that is not what it should be."""
    return InvalidInput(
        f"{name} is damaged or incomplete: {why}", code="corrupt_weights", hint="download the model again"
    )


def _tensor(cursor: _Cursor) -> Tensor:
    name = cursor.string()
    shape = tuple(cursor.scalar("Q") for _ in range(cursor.count("I", MAX_DIMENSIONS, "dimensions")))
    return Tensor(name, shape, cursor.scalar("I"), cursor.scalar("Q"))


class _Cursor:
    """Where reading is. Never beyond the end of what was given, nor MAX_HEAD_BYTES."""

    def __init__(self, name: str, data: Any) -> None:
        self._name, self._data = name, data
        self._items = 0
        self.at = 0

    def bytes(self, size: int) -> bytes:
        start = self._advance(size)
        return bytes(self._data[start : self.at])

    def scalar(self, form: str) -> Any:
        return self._unpack(f"<{form}")[0]

    def count(self, form: str, most: int, what: str) -> int:
        found: int = self.scalar(form)
        if found > most:
            raise corrupt(self._name, f"it counts {found} {what}, at most {most} can be")
        return found

    def string(self) -> str:
        try:
            return self.bytes(self.scalar("Q")).decode()
        except UnicodeDecodeError:
            raise corrupt(self._name, "a string in its head is not UTF-8") from None

    def value(self) -> Any:
        kind = self.scalar("I")
        if kind != _LIST:
            return self.string() if kind == _STRING else self.scalar(self._form(kind))
        kind, count = self.scalar("I"), self.count("Q", MAX_ITEMS, "items of a list")
        self._items += count
        if self._items > MAX_ITEMS_OF_ALL:
            raise corrupt(self._name, f"its lists have more than {MAX_ITEMS_OF_ALL} items")
        if kind == _STRING:
            return [self.string() for _ in range(count)]
        return list(self._unpack(f"<{count}{self._form(kind)}"))

    def _unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack_from(form, self._data, self._advance(struct.calcsize(form)))

    def _form(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise corrupt(self._name, f"its head has a value of type {kind}, which is none")
        return _SCALARS[kind]

    def _advance(self, size: int) -> int:
        start = self.at
        if size > MAX_HEAD_BYTES - start:
            raise corrupt(self._name, f"its head does not end within {MAX_HEAD_BYTES} bytes")
        if size > len(self._data) - start:
            raise CutOff
        self.at += size
        return start
