"""Reads safetensors files by hand: an 8-byte length, a JSON header, raw little-endian tensors. Nothing is unpickled."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penstock.kit.errors import InvalidInput, NotFound

MAX_HEADER_BYTES = 100 << 20
_TYPES: dict[str, tuple[Any, int]] = {
    "F64": (np.float64, 8),
    "F32": (np.float32, 4),
    "F16": (np.float16, 2),
    "BF16": (np.uint16, 2),
}


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


class Weights:
    """The tensors of a model folder by name, one file or several (`model.safetensors.index.json`)."""

    def __init__(self, folder: Path) -> None:
        """Reads headers and checks them against the files' sizes. Raises NotFound or InvalidInput, naming the file."""
        self._entries: dict[str, _Entry] = {}
        for path in weight_files(folder):
            self._entries.update(_read_header(path))

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The tensor in float32. Raises InvalidInput if it is absent, of another shape, or not finite."""
        entry = self._entries.get(name)
        if entry is None:
            raise InvalidInput(f"the weights have no tensor {name!r}", code="corrupt_weights")
        if entry.shape != shape:
            raise InvalidInput(
                f"tensor {name!r}: found shape {list(entry.shape)}, expected {list(shape)} by config.json",
                code="corrupt_weights",
            )
        kind, _ = _TYPES[entry.dtype]
        raw = np.memmap(entry.path, dtype=kind, mode="r", offset=entry.start, shape=shape)
        array = (
            (raw.astype(np.uint32) << 16).view(np.float32)
            if entry.dtype == "BF16"
            else raw.astype(np.float32)
        )
        if not np.isfinite(array).all():
            raise InvalidInput(
                f"{entry.path.name}: tensor {name!r} holds values that are no numbers", code="corrupt_weights"
            )
        return array


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the model's weights, in order."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(
                f"{index.name} is not a weight index: {error}", code="corrupt_weights"
            ) from None
        paths = tuple(folder / Path(name).name for name in names)
    else:
        paths = tuple(sorted(folder.glob("*.safetensors")))
    for path in paths:
        if not path.exists():
            raise NotFound(
                f"{path.name}: named by {index.name}, but not in the folder", code="missing_weights"
            )
    if not paths:
        raise NotFound(
            f"{folder}: no *.safetensors file",
            code="missing_weights",
            hint="a model folder holds config.json, tokenizer.json and *.safetensors, or OpenVINO IR, or one *.gguf",
        )
    return paths


def _read_header(path: Path) -> dict[str, _Entry]:
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise _corrupt(path, f"its header cannot be {length} bytes long in a file of {size}")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise _corrupt(path, f"its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise _corrupt(path, "its header is not a JSON object")
    return {
        name: _entry(path, name, described, 8 + length, size)
        for name, described in header.items()
        if name != "__metadata__"
    }


def _entry(path: Path, name: str, described: Any, base: int, size: int) -> _Entry:
    try:
        dtype, shape = described["dtype"], tuple(int(n) for n in described["shape"])
        start, end = (int(n) for n in described["data_offsets"])
    except (TypeError, KeyError, ValueError):
        raise _corrupt(path, f"tensor {name!r} is not described as it should be") from None
    if dtype not in _TYPES:
        raise InvalidInput(
            f"{path.name}: tensor {name!r} has type {dtype}, expected {', '.join(_TYPES)}",
            code="unsupported_weights",
        )
    wanted = math.prod(shape) * _TYPES[dtype][1]
    if start < 0 or end - start != wanted or base + end > size:
        raise _corrupt(
            path, f"tensor {name!r} does not fit: bytes {start} to {end}, the file has {size - base}"
        )
    return _Entry(path, dtype, shape, base + start)


def _corrupt(path: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"{path.name} is damaged or incomplete: {why}",
        code="corrupt_weights",
        hint="download the model again",
    )
