"""A tokenizer that needs no files: four bytes of UTF-8 are one token, counted anew after each marker of a turn.

So what the engine answered comes back in the next turn as the same tokens, wherever it stood.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

_MARKER = re.compile(r"(<\|[a-z_]+\|>)")


class ByteText:
    """See `Vocabulary`. A token's number is its bytes, least significant first."""

    size = 1 << 32
    longest_token = 4

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; nothing is put around a text."""
        ids: list[int] = []
        for part in _MARKER.split(text):
            raw = part.encode("utf-8", "replace")
            raw += bytes(-len(raw) % 4)
            ids.extend(memoryview(raw).cast("I"))
        return ids

    def decoder(self) -> Callable[[int], str]:
        """A function that takes tokens one by one; a character that is not complete is held back."""
        decoder = getincrementaldecoder("utf-8")("replace")
        return lambda token: decoder.decode(_raw(token))

    def piece(self, token: int) -> str:
        """One token as text."""
        return _raw(token).decode("utf-8", "replace")

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> str:
        """Markers of roles around contents; tools come first, as JSON."""
        parts = [f"<|tools|>{orjson.dumps(tools).decode()}<|end|>"] if tools else []
        parts += [f"<|{message['role']}|>{message['content']}<|end|>" for message in messages]
        return "".join((*parts, "<|assistant|>"))


def _raw(token: int) -> bytes:
    return token.to_bytes(4, "little").rstrip(b"\0")
