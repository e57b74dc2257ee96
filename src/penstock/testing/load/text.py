"""Text of so many tokens, by key: the same key gives the same text, another key another one from its first word on.

Texts are pieces of one long text of pseudo-words, each behind a word of its own, so that a prompt of a hundred thousand tokens costs as
much as copying it. Tokens are counted by a tokenizer where one is given, else taken to be four bytes long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from random import Random
from typing import NamedTuple

from penstock.kit.errors import InvalidInput, NotFound, Unavailable

TOKEN_BYTES = 4
"""What a token of English is in most vocabularies."""
POOL_WORDS = 60_000
HEAD_LETTERS = 15
LETTERS = "abcdefghijklmnop"
ONSETS = [
    "b",
    "c",
    "d",
    "f",
    "g",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "w",
    "br",
    "ch",
    "cl",
    "dr",
    "fl",
    "gr",
    "pl",
    "sh",
    "sl",
    "st",
    "th",
    "tr",
]
NUCLEI = ["a", "e", "i", "o", "u", "ai", "ea", "ee", "ou"]
CODAS = ["", "", "l", "m", "n", "r", "s", "t", "nd", "ng", "st"]


class Piece(NamedTuple):
    """`tokens` of the text that belongs to `key`."""

    key: str
    tokens: int


class Writer:
    """All texts of one run. Another salt gives other texts of the same lengths, for runs that shall not find each other's in caches."""

    def __init__(self, tokenizer: Path | None = None) -> None:
        """`tokenizer` is a tokenizer.json or its folder. Raises NotFound, InvalidInput, Unavailable without the library."""
        self._salt = ""
        chance = Random("pool")  # noqa: S311  reproducible, not secret
        words = [
            chance.choice(ONSETS) + chance.choice(NUCLEI) + chance.choice(CODAS) for _ in range(POOL_WORDS)
        ]
        self._pool = " " + " ".join(words)
        self._count = None if tokenizer is None else _Counter(tokenizer)
        self._ends: Sequence[int] = () if self._count is None else self._count.ends(self._pool)

    def salted(self, salt: str) -> Writer:
        """The writer of another run."""
        other = copy(self)
        other._salt = salt
        return other

    def text(self, pieces: Sequence[Piece]) -> str:
        """The texts of all pieces, one after the other."""
        return "".join(self._piece(piece) for piece in pieces)

    def _piece(self, piece: Piece) -> str:
        digest = hashlib.blake2b(f"{self._salt}\0{piece.key}".encode(), digest_size=16).digest()
        head = " " + "".join(LETTERS[byte & 15] for byte in digest[:HEAD_LETTERS])
        start = int.from_bytes(digest[8:], "little")
        if self._count is None:
            return self._cut(head, start % len(self._pool), piece.tokens * TOKEN_BYTES)
        left = piece.tokens - len(self._count.ends(head))
        if left <= 0:
            return head[: self._count.ends(head)[piece.tokens - 1]] if piece.tokens > 0 else ""
        return head + self._tokens(start % len(self._ends), left)

    def _cut(self, head: str, start: int, size: int) -> str:
        """`size` characters, which are bytes."""
        pool, wanted = self._pool, size - len(head)
        if wanted <= 0:
            return head[: max(0, size)]
        body = pool[start : start + wanted]
        while len(body) < wanted:
            body += pool[: wanted - len(body)]
        return head + body

    def _tokens(self, start: int, count: int) -> str:
        """`count` tokens of the pool, from its token `start` on."""
        ends, parts = self._ends, []
        while count > 0:
            last = min(start + count, len(ends))
            parts.append(self._pool[ends[start - 1] if start else 0 : ends[last - 1]])
            count -= last - start
            start = 0
        return "".join(parts)


class _Counter:
    """Where each token of a text ends."""

    def __init__(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer  # noqa: PLC0415  an extra
        except ImportError:
            raise Unavailable(
                "--tokenizer needs the package tokenizers, which is not installed",
                hint='`pip install "penstock[cpu]"`, or leave --tokenizer out: four bytes count as a token',
            ) from None
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise NotFound(f"--tokenizer: found no file {file}")
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # noqa: BLE001  the library raises nothing more exact
            raise InvalidInput(f"--tokenizer: {file} is no tokenizer.json: {error}") from None

    def ends(self, text: str) -> list[int]:
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return [end for _, end in encoded.offsets]
