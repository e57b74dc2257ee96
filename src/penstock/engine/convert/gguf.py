"""A GGUF file on this machine, checked: the library checks little of it, and loads a file that was cut off and answers nonsense."""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.kit import gguf as kit_gguf
from penstock.kit.errors import InvalidInput
from penstock.kit.gguf import BLOCKS, CutOff, Tensor, read_head

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Those that openvino_genai builds a graph for."""
READABLE = frozenset(("F32", "F16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K"))
"""The tensor types that openvino_genai reads, F32 in vectors alone."""


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
        try:
            head = read_head(data, path.name)
        except CutOff:
            raise corrupt(path, f"its head does not end within {size} bytes") from None
    found = Gguf(path, head.metadata, head.tensors)
    alignment = found.number("general.alignment") or 32
    _check_extent(found, size - math.ceil(head.size_bytes / alignment) * alignment)
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
        readable = READABLE - ({"F32"} if len(tensor.shape) > 1 else set())
        kind = BLOCKS[tensor.kind].name if tensor.kind in BLOCKS else f"number {tensor.kind}"
        if kind not in readable:
            raise _unsupported(
                gguf,
                f"tensor {tensor.name!r} is of ggml type {kind}, expected {', '.join(sorted(readable))}",
                hint,
            )


def corrupt(path: Path, why: str) -> InvalidInput:
    """For a file that is not what it should be."""
    return kit_gguf.corrupt(path.name, why)


def _unsupported(gguf: Gguf, what: str, hint: str) -> InvalidInput:
    return InvalidInput(f"{gguf.path.name}: {what}", code="unsupported_weights", hint=hint)


def _check_extent(gguf: Gguf, room: int) -> None:
    for tensor in gguf.tensors:
        end = tensor.start + (tensor.size_bytes or 0)  # of an unknown type at least the start
        if end > room:
            raise corrupt(
                gguf.path, f"tensor {tensor.name!r} ends at byte {end} of its data, which has {max(room, 0)}"
            )
