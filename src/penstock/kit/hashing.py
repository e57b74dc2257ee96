"""Stable hashes of values: equal values hash equal on every machine, in every process, in every version of Python."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Any

import msgspec
import xxhash

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
SHORT_LENGTH = 10

TOKEN_BYTES = 4


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no white space; a msgspec Struct is written as its wire form."""
    return msgspec.json.encode(value, order="sorted")


def stable_hash(value: Any) -> str:
    """32 hexadecimal digits over `canonical_json(value)`. Not for secrets: xxh3 is no cryptographic hash."""
    return xxhash.xxh3_128_hexdigest(canonical_json(value))


def short_hash(value: Any, length: int = SHORT_LENGTH) -> str:
    """A hash fit for a name: lower case, no vowels, so that it never spells a word (4.7 bits a letter, at most 20)."""
    number, letters = xxhash.xxh3_128_intdigest(canonical_json(value)), []
    for _ in range(min(length, 20)):
        number, index = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[index])
    return "".join(letters)


DRAWS = float(1 << 64)
"""How many numbers `draw` draws from."""


def draw(text: str) -> int:
    """A number in [0, 2^64) that looks drawn by chance and is always the same for the same text."""
    return xxhash.xxh3_64_intdigest(text.encode())


def seeded_draw(text: str, seed: int) -> int:
    """The same, with another order of all texts for each `seed` in [0, 2^64)."""
    return xxhash.xxh3_64_intdigest(text.encode(), seed)


def chain_seed(model: str, adapter: str = "", salt: str = "") -> int:
    """What the first block of a prompt is chained on, in [0, 2^64): prompts for other weights, or another tenant's, share no block."""
    return xxhash.xxh3_64_intdigest(f"{model}\0{adapter}\0{salt}".encode())


def chained(data: bytes | memoryview, before: int) -> int:
    """A number in [0, 2^64) for `data` after what `before` stands for."""
    return xxhash.xxh3_64_intdigest(data, before)


def text_blocks(data: bytes | memoryview, block_bytes: int, seed: int) -> list[int]:
    """Of a prompt's UTF-8, one number in [0, 2^64) for each whole block, each seeded by the one before: equal numbers mean equal beginnings.

    What is left after the last whole block is not hashed. `block_bytes` is at least 1.
    """
    digest, whole = xxhash.xxh3_64_intdigest, memoryview(data)[: len(data) - len(data) % block_bytes]
    return [seed := digest(block, seed) for (block,) in struct.iter_unpack(f"{block_bytes}s", whole)]


def token_blocks(tokens: Sequence[int], block_tokens: int, seed: int) -> list[int]:
    """The same of a prompt's token ids. Raises OverflowError for one that is not in [0, 2^32), TypeError for what is no number."""
    return text_blocks(token_bytes(tokens), block_tokens * TOKEN_BYTES, seed)


def token_bytes(tokens: Sequence[int]) -> bytes:
    """Token ids as they are hashed, little-endian and `TOKEN_BYTES` each; raises as `token_blocks` does."""
    numbers = array("I", tokens)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
