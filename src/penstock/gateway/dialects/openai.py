"""What the translators read of OpenAI's answers; whatever else an engine adds is skipped."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType


class Function(Struct):
    """A tool call's function, or a piece of it; `arguments` is JSON text."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(Struct):
    """A whole tool call, or a delta of the one at `index`."""

    index: int = 0
    id: str | None = None
    function: Function = msgspec.field(default_factory=Function)


class Message(Struct):
    """A message or a delta. Engines call what the model thought `reasoning_content`, newer ones `reasoning`."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def thought(self) -> str:
        """What the model thought, "" where the engine does not tell."""
        return self.reasoning_content or self.reasoning or ""

    @property
    def text(self) -> str:
        """The answer, or the words in which it is refused."""
        return self.content or self.refusal or ""


class Logprobs(Struct):
    """Of a chat: `content` is a list of tokens, each with its `logprob` and `top_logprobs`."""

    content: Raw = Raw()


class Choice(Struct):
    """One choice, whole (`message`), of a chat's stream (`delta`) or of a completion (`text`).

    `stop_reason` (vLLM) and `matched_stop` (SGLang) are the stop string that ended the answer, or a token's number.
    """

    message: Message | None = None
    delta: Message | None = None
    text: str | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    matched_stop: str | int | None = None

    @property
    def said(self) -> Message:
        """Its content, in whichever of the three shapes it came."""
        return self.message or self.delta or Message(content=self.text)

    @property
    def stop_string(self) -> str | None:
        """The caller's stop string that ended the answer, if the engine says so."""
        found = self.stop_reason or self.matched_stop
        return found if isinstance(found, str) else None


class CachedTokens(Struct):
    """Of the prompt."""

    cached_tokens: int | None = None


class Usage(Struct):
    """In tokens."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: CachedTokens | None = None

    @property
    def cached(self) -> int:
        """Tokens of the prompt that were not computed again."""
        return (self.prompt_tokens_details.cached_tokens or 0) if self.prompt_tokens_details else 0


class Completion(Struct):
    """A whole answer, or one chunk of a stream; `error` is there in a stream that failed."""

    id: str = ""
    choices: list[Choice] = []
    usage: Usage | None = None
    error: Raw | UnsetType = UNSET


class Embedding(Struct):
    """One input's vector."""

    embedding: list[float]
    index: int = 0


class Embeddings(Struct):
    """Answer of /v1/embeddings."""

    data: list[Embedding]
    usage: Usage = msgspec.field(default_factory=Usage)


class TokenCount(Struct):
    """Answer of /tokenize, as vLLM and Penstock's engine give it."""

    count: int


COMPLETION = msgspec.json.Decoder(Completion)
EMBEDDINGS = msgspec.json.Decoder(Embeddings)
TOKEN_COUNT = msgspec.json.Decoder(TokenCount)
FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoders above raise (a ValidationError is a DecodeError)."""

_MAX_MESSAGE = 2000


def error_text(body: bytes) -> str:
    """An engine's own words for why it refused: OpenAI's shape, those of FastAPI and older vLLM, or plain text."""
    try:
        found: Any = msgspec.json.decode(body)
    except FAILURES:
        found = None
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    text = found if isinstance(found, str) else body.decode("utf-8", "replace").strip()
    return text[:_MAX_MESSAGE] or "the engine gave no reason"


def error_status(error: bytes) -> int:
    """The status that an error object in a stream stands for: engines put it into `code`, else it is their fault."""
    try:
        code = msgspec.json.decode(error).get("code")
    except (*FAILURES, AttributeError):
        return 500
    number = int(code) if isinstance(code, int | str) and str(code).isdecimal() else 0
    return number if 400 <= number <= 599 else 500
