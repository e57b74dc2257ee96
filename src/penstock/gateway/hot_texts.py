"""The requests by which a service's hottest beginnings of prompts can be computed again: texts, in this memory alone, and never told.

One request's body stands for each beginning, as it went to an engine. What is kept is bounded in number and bytes; when it is too much, what
is not among the hottest goes. `warming_request` makes of it one that ends where the beginning does, and wants one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from msgspec import Struct

from penstock.contracts.scheduling import Prompt
from penstock.decide.prewarm import MOST_CONSIDERED, Beginning
from penstock.gateway.kv_index import KvIndex

MOST_TEXTS = 4 * MOST_CONSIDERED
MOST_BYTES = 8 << 20
MOST_TEXT_BYTES = 256 << 10
"""A longer request is not kept."""
GENERATES = ("/v1/chat/completions", "/v1/completions")
SHAPING = (
    "model",
    "messages",
    "prompt",
    "tools",
    "tool_choice",
    "functions",
    "documents",
    "chat_template",
    "chat_template_kwargs",
    "reasoning_effort",
    "cache_salt",
)
"""What makes a prompt; nothing else of a request is sent again."""


class HotText(Struct, frozen=True, gc=False):
    """A request to `path` of `tokens` in all, whose first blocks are `hashes`, of `block_tokens` each."""

    hashes: Sequence[int]
    tokens: int
    block_tokens: float
    path: str
    body: bytes


class HotTexts:
    """One for a service."""

    def __init__(self) -> None:
        self._texts: dict[int, HotText] = {}
        self._bytes = 0

    def saw(
        self, prompt: Prompt, shared_blocks: int, path: str, body: bytes, index: KvIndex, now: float
    ) -> None:
        """A request went to an engine, so many of whose first blocks had been somewhere before."""
        if not shared_blocks or not path.endswith(GENERATES) or len(body) > MOST_TEXT_BYTES:
            return
        key = prompt.hashes[shared_blocks - 1]
        if key in self._texts:
            return
        self._texts[key] = HotText(
            prompt.hashes[:shared_blocks], prompt.tokens, prompt.block_tokens, path, body
        )
        self._bytes += len(body)
        if len(self._texts) > MOST_TEXTS or self._bytes > MOST_BYTES:
            self._tidy(index, now)

    def hottest(self, index: KvIndex, now: float) -> tuple[list[Beginning], list[HotText]]:
        """Side by side, the hottest first."""
        beginnings: list[Beginning] = []
        texts: list[HotText] = []
        for hot in index.hottest(MOST_TEXTS, now):
            text = self._texts.get(hot.hash)
            if text is not None and len(beginnings) < MOST_CONSIDERED:
                beginnings.append(Beginning(text.hashes, hot.rate))
                texts.append(text)
        return beginnings, texts

    def clear(self) -> None:
        """Prompts are hashed otherwise from now on."""
        self._texts.clear()
        self._bytes = 0

    def _tidy(self, index: KvIndex, now: float) -> None:
        """The hottest stay, up to half of what may be kept."""
        kept: dict[int, HotText] = {}
        size = 0
        for hot in index.hottest(MOST_TEXTS // 2, now):
            text = self._texts.get(hot.hash)
            if text is not None and size + len(text.body) <= MOST_BYTES // 2:
                kept[hot.hash] = text
                size += len(text.body)
        self._texts, self._bytes = kept, size


def warming_request(text: HotText) -> bytes | None:
    """A body that has the engine compute the beginning, and hardly more; None where it cannot be cut there."""
    try:
        given = orjson.loads(text.body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(given, dict):
        return None
    share = min(1.0, len(text.hashes) * text.block_tokens / max(text.tokens, 1))
    made = {name: given[name] for name in SHAPING if name in given}
    prompt, messages = given.get("prompt"), given.get("messages")
    if isinstance(messages, list) and all(isinstance(one, dict) for one in messages):
        made["messages"] = _begun(messages, share)
    elif isinstance(prompt, str):
        made["prompt"] = _cut(prompt, share * len(prompt.encode()))
    elif isinstance(prompt, list) and all(type(one) is int for one in prompt):
        made["prompt"] = prompt[: round(share * len(prompt))]
    else:
        return None
    return orjson.dumps(made | {"max_tokens": 1, "stream": False})


def _begun(messages: list[dict[str, Any]], share: float) -> list[dict[str, Any]]:
    """The first of them, with that share of all their text."""
    left = share * sum(len(text.encode()) for one in messages for text in _texts_of(one))
    begun: list[dict[str, Any]] = []
    for one in messages:
        if begun and left <= 0:
            break
        size = sum(len(text.encode()) for text in _texts_of(one))
        if size > left and isinstance(one.get("content"), str):
            begun.append({**one, "content": _cut(one["content"], left)})
        else:
            begun.append(one)
        left -= size
    return begun


def _texts_of(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _cut(text: str, size: float) -> str:
    """About so many bytes of its UTF-8."""
    return text.encode()[: max(0, round(size))].decode(errors="ignore")
