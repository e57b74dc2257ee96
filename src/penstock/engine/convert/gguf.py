"""Reads the head of a GGUF file by hand: metadata and what tensors there are, never the tensors themselves.

The format is ggml's GGUF, version 2 and 3, little-endian: magic, version, two counts, key/value pairs, tensor descriptions,
then the tensors' data from the next multiple of `general.alignment` on. The library checks little of it: it loads a file that was
cut off and answers nonsense. So every length is checked here.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.kit.errors import InvalidInput

MAX_HEAD_BYTES = 64 << 20
MAX_ITEMS = 1 << 20
"""Of one list: the largest vocabularies have a quarter of it."""
MAX_TENSORS = 1 << 16
MAX_DIMENSIONS = 4
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Those that openvino_genai builds a graph for."""
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9
_BLOCKS = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    8: ("Q8_0", 32, 34),
    12: ("Q4_K", 256, 144),
    14: ("Q6_K", 256, 210),
}
"""The tensor types that openvino_genai reads: name, values of a block, bytes of a block."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """`kind` is ggml's number of the type; `start` counts bytes from the beginning of the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True, slots=True)
class Gguf:
    """The head of a file. The accessors raise InvalidInput, naming the key, if a value is of another type."""

    path: Path
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]

    def text(self, key: str) -> str:
        """A string; empty if the file does not say it."""
        value: str = self._value(key, str, "a string") or ""
        return value

    def number(self, key: str) -> int | None:
        """A natural number; None if the file does not say it."""
        value: int | None = self._value(key, int, "a number")
        if value is not None and value < 0:
            raise corrupt(self.path, f"{key} is {value}, expected a natural number")
        return value

    def flag(self, key: str) -> bool | None:
        """True or false; None if the file does not say it."""
        value: bool | None = self._value(key, bool, "true or false")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of strings, which has to be there."""
        return self._list(key, str)

    def numbers(self, key: str) -> list[int]:
        """A list of whole numbers, which has to be there."""
        return self._list(key, int)

    def _value(self, key: str, kind: type, expected: str) -> Any:
        value = self.metadata.get(key)
        if value is not None and type(value) is not kind:
            raise corrupt(self.path, f"{key}: found {type(value).__name__}, expected {expected}")
        return value

    def _list(self, key: str, kind: type) -> list[Any]:
        value: list[Any] | None = self._value(key, list, "a list")
        if value is None:
            raise corrupt(self.path, f"{key} is absent")
        if value and type(value[0]) is not kind:
            raise corrupt(self.path, f"{key} is a list of {type(value[0]).__name__}")
        return value


def read_gguf(path: Path) -> Gguf:
    """Raises InvalidInput, naming the file, unless its head is whole and its tensors lie within it."""
    size = path.stat().st_size
    if size < 24:
        raise corrupt(path, f"it has {size} bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(path, data)
        magic, version = cursor.bytes(4), cursor.scalar("I")
        if magic != b"GGUF":
            raise corrupt(path, f"it begins with {magic!r}, expected b'GGUF'")
        if version not in (2, 3):
            raise InvalidInput(
                f"{path.name}: GGUF version {version}, expected 2 or 3 (little-endian)",
                code="unsupported_weights",
            )
        tensors, pairs = cursor.count("Q", MAX_TENSORS, "tensors"), cursor.count("Q", MAX_ITEMS, "keys")
        metadata = {}
        for _ in range(pairs):
            key = cursor.string()
            metadata[key] = cursor.value()
        described = tuple(_tensor(cursor) for _ in range(tensors))
        head = cursor.at
    found = Gguf(path, metadata, described)
    alignment = found.number("general.alignment") or 32
    _check_extent(found, size - math.ceil(head / alignment) * alignment)
    return found


def check_readable(gguf: Gguf) -> None:
    """Raises InvalidInput, by name, for what the library cannot read or would read wrongly."""
    hint = "convert the model to a Hugging Face folder or to OpenVINO IR, or choose another runtime, as llama.cpp"
    architecture, model = gguf.text("general.architecture"), gguf.text("tokenizer.ggml.model")
    if architecture not in ARCHITECTURES:
        raise _unsupported(
            gguf, f"architecture {architecture or 'none'!r}, expected {', '.join(ARCHITECTURES)}", hint
        )
    if model != "gpt2":
        raise _unsupported(gguf, f"tokenizer.ggml.model {model or 'none'!r}, expected gpt2", hint)
    scaling = gguf.text(f"{architecture}.rope.scaling.type")
    if scaling not in {"", "none"} or any(tensor.name == "rope_freqs.weight" for tensor in gguf.tensors):
        raise _unsupported(gguf, "RoPE scaling, which would be ignored", hint)
    for tensor in gguf.tensors:
        readable = {name for name, _, _ in _BLOCKS.values()} - ({"F32"} if len(tensor.shape) > 1 else set())
        kind = _BLOCKS[tensor.kind][0] if tensor.kind in _BLOCKS else f"number {tensor.kind}"
        if kind not in readable:
            raise _unsupported(
                gguf,
                f"tensor {tensor.name!r} is of ggml type {kind}, expected {', '.join(sorted(readable))}",
                hint,
            )


def corrupt(path: Path, why: str) -> InvalidInput:
    """For a file that is not what it should be."""
    return InvalidInput(
        f"{path.name} is damaged or incomplete: {why}",
        code="corrupt_weights",
        hint="download the model again",
    )


def _unsupported(gguf: Gguf, what: str, hint: str) -> InvalidInput:
    return InvalidInput(f"{gguf.path.name}: {what}", code="unsupported_weights", hint=hint)


def _tensor(cursor: _Cursor) -> Tensor:
    name = cursor.string()
    shape = tuple(cursor.scalar("Q") for _ in range(cursor.count("I", MAX_DIMENSIONS, "dimensions")))
    return Tensor(name, shape, cursor.scalar("I"), cursor.scalar("Q"))


def _check_extent(gguf: Gguf, room: int) -> None:
    for tensor in gguf.tensors:
        _, values, size = _BLOCKS.get(tensor.kind, ("", 1, 0))  # of an unknown type at least the start
        end = tensor.start + math.prod(tensor.shape) // values * size
        if end > room:
            raise corrupt(
                gguf.path, f"tensor {tensor.name!r} ends at byte {end} of its data, which has {max(room, 0)}"
            )


class _Cursor:
    """Where reading is. Never beyond the file's end, nor MAX_HEAD_BYTES."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data = path, data
        self._end = min(len(data), MAX_HEAD_BYTES)
        self.at = 0

    def bytes(self, size: int) -> bytes:
        start = self._advance(size)
        return self._data[start : self.at]

    def scalar(self, form: str) -> Any:
        return self._unpack(f"<{form}")[0]

    def count(self, form: str, most: int, what: str) -> int:
        found: int = self.scalar(form)
        if found > most:
            raise corrupt(self._path, f"it counts {found} {what}, at most {most} can be")
        return found

    def string(self) -> str:
        try:
            return self.bytes(self.scalar("Q")).decode()
        except UnicodeDecodeError:
            raise corrupt(self._path, "a string in its head is not UTF-8") from None

    def value(self) -> Any:
        kind = self.scalar("I")
        if kind != _LIST:
            return self.string() if kind == _STRING else self.scalar(self._form(kind))
        kind, count = self.scalar("I"), self.count("Q", MAX_ITEMS, "items of a list")
        if kind == _STRING:
            return [self.string() for _ in range(count)]
        return list(self._unpack(f"<{count}{self._form(kind)}"))

    def _unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack_from(form, self._data, self._advance(struct.calcsize(form)))

    def _form(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise corrupt(self._path, f"its head has a value of type {kind}, which is none")
        return _SCALARS[kind]

    def _advance(self, size: int) -> int:
        start = self.at
        if size > self._end - start:
            raise corrupt(self._path, f"its head does not end within {self._end} bytes")
        self.at += size
        return start
