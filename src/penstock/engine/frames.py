"""What the processes of an engine tell each other: length-prefixed MessagePack over a socket pair."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
from msgspec import Struct

_LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 256 << 20


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How to choose tokens; None leaves the library's default. `stop_ids` end an answer besides the model's own."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    ignore_eos: bool = False
    logprobs: bool = False
    json_schema: str | None = None


class Add(Struct, frozen=True, tag=True):
    """Start a request; `id` is never used twice."""

    id: int
    tokens: list[int]
    sampling: Sampling


class Cancel(Struct, frozen=True, tag=True):
    """Stop a request; its blocks go back to the cache."""

    id: int


class Loaded(Struct, frozen=True, tag=True):
    """The pipeline is ready; `blocks` of its KV pool. `tokenizer` is where its grammars' tokenizer lies; empty if it can follow none."""

    blocks: int
    tokenizer: str = ""


class Failed(Struct, frozen=True, tag=True):
    """The pipeline could not be made."""

    message: str
    code: str = "load_failed"


class Update(Struct, frozen=True, omit_defaults=True):
    """New tokens of one request; `finish` is "stop", "length", "cancelled", "out_of_memory" or an error text's "error"."""

    id: int
    tokens: list[int] = []
    logprobs: list[float] = []
    finish: str = ""
    error: str = ""


class Step(Struct, frozen=True, tag=True):
    """Everything that one step of the pipeline brought."""

    updates: list[Update]
    running: int
    kv_usage: float


class Schema(Struct, frozen=True):
    """Compile this one; `text` is JSON."""

    text: str


class Verdict(Struct, frozen=True):
    """Why a schema cannot be followed, empty if it can, and by how much the process has grown since it began."""

    fault: str = ""
    grown_bytes: int = 0


Downward = Add | Cancel
Upward = Loaded | Failed | Step


def encode(message: Any) -> bytes:
    """One frame."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class Unframer:
    """Cuts a byte stream into frames."""

    def __init__(self, kind: Any) -> None:
        """`kind` is what the frames hold."""
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The messages that are complete now. Raises ValueError for a frame beyond the limit."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {size} bytes")
            end = _LENGTH.size + size
            if len(self._buffer) < end:
                break
            messages.append(self._decoder.decode(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]
        return messages
