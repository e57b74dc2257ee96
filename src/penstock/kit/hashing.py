"""Stable hashes of values: equal values hash equal on every machine, in every process, in every version of Python."""

from __future__ import annotations

from typing import Any

import msgspec
import xxhash

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
SHORT_LENGTH = 10


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
