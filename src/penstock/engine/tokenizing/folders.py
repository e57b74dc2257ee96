"""Tokenizers and templates of model folders, and what they make of requests: the same as the engine does."""

from __future__ import annotations

import sys
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

from penstock.contracts.tokenizing import BYTES_TOKENIZER, Ask, Told
from penstock.engine.simulated.byte_text import ByteText
from penstock.engine.text import Text, Vocabulary
from penstock.engine.tokenizing.chunks import ChunkedTokenizer, Chunks
from penstock.engine.wishes import prompt_text, read_object, wrong
from penstock.kit.errors import NotFound, PlatformError
from penstock.kit.hashing import TOKEN_BYTES, text_blocks, token_bytes

MAX_LOADED = 8
"""Of more models than that, those that were asked for last."""

LOOK_S = 1.0
"""So often it is looked whether a folder's files have changed: that takes as long as tokenizing a short question."""

MAX_SEEN = 1024
Files = tuple[tuple[str, int, int, int], ...]
NEVER: tuple[float, Files] = (-inf, ())


class Loaded:
    """The tokenizer and template of one model."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: ChunkedTokenizer | None) -> None:
        """Without a `tokenizer` the vocabulary is asked for the whole text each time."""
        self.vocabulary, self._tokenizer = vocabulary, tokenizer

    def ids(self, body: dict[str, Any]) -> tuple[bytes, int]:
        """The prompt's token ids, little-endian, and how many of them were made anew. Raises InvalidInput."""
        prompt = body.get("prompt")
        if isinstance(prompt, list) and "messages" not in body:
            if len(prompt) == 1 and isinstance(prompt[0], str | list):
                body = {**body, "prompt": prompt[0]}
                prompt = prompt[0]
            if isinstance(prompt, list):
                return _given(prompt), 0
        text, special = prompt_text(body, self.vocabulary)
        if self._tokenizer is None:
            made = self.vocabulary.encode(text, special=special)
            return token_bytes(made), len(made)
        tokens, fresh = self._tokenizer.ids(text, special=special)
        return (_swapped(tokens) if sys.byteorder == "big" else tokens), fresh


class Tokenizers:
    """Loaded when they are asked for, and anew when their files are others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """None is loaded."""
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, Files]] = OrderedDict()
        self._loaded: OrderedDict[Files, Loaded] = OrderedDict()
        self._chunks = Chunks()
        self._number = 0

    def answer(self, ask: Ask) -> Told:
        """Never raises: whatever is wrong is told."""
        began = time.perf_counter()
        try:
            loaded = self._of(ask.folder)
        except PlatformError as error:
            return Told(broken=error.code)
        except Exception as error:  # noqa: BLE001  the file is not ours, and the library raises what it likes
            return Told(broken=f"corrupt_tokenizer: {type(error).__name__}")
        if not ask.body:
            return Told(took_s=time.perf_counter() - began)
        try:
            ids, fresh = loaded.ids(read_object(ask.body))
        except PlatformError as error:
            return Told(error=error.code)
        except Exception as error:  # noqa: BLE001  as above, and templates are programs
            return Told(error=type(error).__name__)
        size = TOKEN_BYTES * ask.block_tokens
        hashes = text_blocks(memoryview(ids)[: ask.max_tokens * TOKEN_BYTES], size, ask.seed)
        packed = array("Q", hashes)
        if sys.byteorder == "big":
            packed.byteswap()
        return Told(len(ids) // TOKEN_BYTES, packed.tobytes(), fresh, time.perf_counter() - began)

    def _of(self, folder: str) -> Loaded:
        """Pods of one model have the same files, under different paths."""
        files = self._files_of(folder)
        found = self._loaded.get(files)
        if found is None:
            found = self._loaded[files] = self._load(folder)
            if len(self._loaded) > MAX_LOADED:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(files)
        return found

    def _files_of(self, folder: str) -> Files:
        """As last seen, if that was just now."""
        now, (seen_at, files) = self._clock(), self._seen.get(folder, NEVER)
        if now - seen_at >= LOOK_S:
            self._seen.pop(folder, None)
            files = _files(folder)
            self._seen[folder] = now, files
            if len(self._seen) > MAX_SEEN:
                self._seen.popitem(last=False)
        return files

    def _load(self, folder: str) -> Loaded:
        if folder == BYTES_TOKENIZER:
            return Loaded(ByteText(), None)
        text = Text(Path(folder))
        self._number += 1
        return Loaded(text, ChunkedTokenizer(text.tokenizer, self._chunks, self._number))


def _files(folder: str) -> Files:
    """What makes a tokenizer another. Raises NotFound for a folder that is none."""
    if folder == BYTES_TOKENIZER:
        return ()
    path = Path(folder)
    named = [path / name for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")]
    try:
        found = [(p.name, p.stat()) for p in (*named, *sorted(path.glob("*.gguf"))) if p.is_file()]
    except OSError as error:
        raise NotFound(f"{folder}: {error.strerror}", code="missing_tokenizer") from None
    if not found:
        raise NotFound(f"{folder}: there is no tokenizer", code="missing_tokenizer")
    return tuple((name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in found)


def _given(ids: list[Any]) -> bytes:
    """Token ids that the caller sent itself. Raises InvalidInput for what are none."""
    if not all(type(number) is int and 0 <= number < 1 << 32 for number in ids):
        raise wrong("prompt", ids[:4], "one prompt: a string, or token ids")
    return token_bytes(ids)


def _swapped(tokens: bytes) -> bytes:
    numbers = array("I", tokens)
    numbers.byteswap()
    return numbers.tobytes()
