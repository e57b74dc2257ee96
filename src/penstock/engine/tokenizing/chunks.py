"""Token ids of texts that begin as others did: what was tokenized before is not tokenized again.

A text is cut where its tokens do not depend on what follows, and each chunk's tokens are kept by the chunk's hash. Safe are the ends of
special tokens, and the place before a single space between two letters: pre-tokenizers cut there, unless the vocabulary has tokens of
several words. Whether a tokenizer keeps to that is tried when it is loaded; one that does not is asked for the whole text each time.
Where texts begin alike, their chunks do.
"""

from __future__ import annotations

import os
import re
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise

import xxhash
from tokenizers import Tokenizer

CHUNK_CHARS = 512
"""The least of a chunk that ends between words: about a hundred tokens, which are kept for the price of a hash."""

MESSAGE_CHARS = 64
"""The least of one that ends with a special token: there messages end, and so does what prompts share."""

KEPT_BYTES = 64 << 20
ENTRY_BYTES = 200
"""What keeping a chunk takes, beside 4 bytes for each token."""

MANY = 16
"""So many chunks are worth waking other threads for; the library asks the environment each time."""
PARALLEL = "TOKENIZERS_PARALLELISM"

MAX_SPECIAL = 1024
_BETWEEN_WORDS = re.compile("[A-Za-z] [A-Za-z]")
_WORDS = re.compile("[A-Za-z](?: |\u0120|\u2581)")
"""A token of more than one word, in the ways in which vocabularies write a space."""
_SAMPLE = (
    "It is not so, she said: 3.14 or 15 apples don't cost what they'd cost in May 2024.\n\n"
    "def f(x):\n\treturn x + 1  # two  spaces\n\n\n* one\n* two\r\n caf\u00e9 na\u00efve \u4f60\u597d \u4e16\u754c \U0001f642 ok "
    '{"role": "user", "content": "a b c"} <b>bold</b> IBM McDonald HTTPServer x_y a/b we\'ll I\'M\n'
)


class Chunks:
    """Tokens by chunk, for all tokenizers of a process; those that were not used for longest make room."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._chunks: OrderedDict[bytes, bytes] = OrderedDict()
        self.size_bytes = 0

    def get(self, key: bytes) -> bytes | None:
        """Token ids, 4 bytes each."""
        found = self._chunks.get(key)
        if found is not None:
            self._chunks.move_to_end(key)
        return found

    def put(self, key: bytes, tokens: bytes) -> None:
        """Keep them."""
        if key not in self._chunks:
            self._chunks[key] = tokens
            self.size_bytes += len(tokens) + ENTRY_BYTES
        while self.size_bytes > self._kept_bytes:
            self.size_bytes -= len(self._chunks.popitem(last=False)[1]) + ENTRY_BYTES


class ChunkedTokenizer:
    """One tokenizer. It takes over the library's, and has it neither pad nor truncate."""

    def __init__(self, tokenizer: Tokenizer, chunks: Chunks, number: int = 0) -> None:
        """`number` tells its chunks from those of others."""
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer, self._chunks, self._seed = tokenizer, chunks, number
        self._head, self._tail = self._around()
        added = _added(tokenizer)
        self._special = re.compile("|".join(map(re.escape, added))) if added else None
        whole = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self.cuts_words = not any(map(_BETWEEN_WORDS.search, whole)) and not any(
            map(_WORDS.search, tokenizer.get_vocab(with_added_tokens=False))
        )
        self._try(added)

    @property
    def is_cutting(self) -> bool:
        """Whether it can leave out what was tokenized before."""
        return self.cuts_words or self._special is not None

    def ids(self, text: str, *, special: bool = False) -> tuple[bytes, int]:
        """Token ids, 4 bytes each, as this machine writes numbers, and how many of them had to be made anew. `special` as in `Text.encode`."""
        keys: list[bytes] = []
        known: dict[bytes, bytes] = {}
        missing: dict[bytes, str] = {}
        chunks = [*self._cut(text)]
        for chunk in chunks:
            key = xxhash.xxh3_128_digest(chunk.encode("utf-8", "surrogatepass"), self._seed)
            keys.append(key)
            if key not in known and key not in missing:
                found = self._chunks.get(key)
                if found is None:
                    missing[key] = chunk
                else:
                    known[key] = found
        fresh = 0
        if missing:
            os.environ[PARALLEL] = "true" if len(missing) >= MANY else "false"
            made = self._tokenizer.encode_batch_fast([*missing.values()], add_special_tokens=False)
            for (key, chunk), encoding in zip(missing.items(), made, strict=True):
                tokens = known[key] = array("I", encoding.ids).tobytes()
                fresh += len(encoding.ids)
                if chunk is not chunks[-1] or len(chunk) >= CHUNK_CHARS:
                    self._chunks.put(key, tokens)
        body = b"".join([known[key] for key in keys])
        return (self._head + body + self._tail if special else body), fresh

    def _cut(self, text: str) -> Iterator[str]:
        """The last chunk ends with the text, wherever that is."""
        start, size = 0, len(text)
        word = -1 if self.cuts_words else size
        special = -1 if self._special is not None else size
        while start + MESSAGE_CHARS < size:
            if word < start + CHUNK_CHARS:
                between = _BETWEEN_WORDS.search(text, start + CHUNK_CHARS - 1)
                word = between.start() + 1 if between else size
            if special < start + MESSAGE_CHARS and self._special is not None:
                marker = self._special.search(text, start + MESSAGE_CHARS)
                special = marker.end() if marker else size
            end = min(word, special)
            if end >= size:
                break
            yield text[start:end]
            start = end
        yield text[start:]

    def _around(self) -> tuple[bytes, bytes]:
        """What `special` puts before and behind a text."""
        plain = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole = self._tokenizer.encode("a", add_special_tokens=True).ids
        for place in range(len(whole) - len(plain) + 1):
            if whole[place : place + len(plain)] == plain:
                return array("I", whole[:place]).tobytes(), array("I", whole[place + len(plain) :]).tobytes()
        return b"", b""

    def _try(self, added: list[str]) -> None:
        """Cut a sample wherever it may be cut, and give up a way of cutting that changes its tokens."""
        pieces = [_SAMPLE, *(f"{marker}user\n{_SAMPLE}" for marker in added[:8])]
        whole = "".join(pieces)
        expected = self._tokenizer.encode(whole, add_special_tokens=False).ids
        if self.cuts_words and self._joined(_at_words(whole)) != expected:
            self.cuts_words = False
        if self._special is not None and self._joined(_at_ends(self._special, whole)) != expected:
            self._special = None

    def _joined(self, chunks: list[str]) -> list[int]:
        made = self._tokenizer.encode_batch_fast(chunks, add_special_tokens=False)
        return [token for encoding in made for token in encoding.ids]


def _added(tokenizer: Tokenizer) -> list[str]:
    """Special tokens behind which a text may be cut, the longer ones first."""
    found = tokenizer.get_added_tokens_decoder().values()
    fit = {t.content for t in found if t.special and t.content and not t.rstrip and not t.single_word}
    return sorted(fit, key=lambda content: (-len(content), content))[:MAX_SPECIAL]


def _at_words(text: str) -> list[str]:
    return re.split("(?<=[A-Za-z])(?= [A-Za-z])", text)


def _at_ends(special: re.Pattern[str], text: str) -> list[str]:
    ends = [0, *(marker.end() for marker in special.finditer(text)), len(text)]
    return [text[a:b] for a, b in pairwise(ends)]
