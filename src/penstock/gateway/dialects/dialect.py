"""What a translator offers: a request on its way to the engine, and the answer on its way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from penstock.gateway.dialects.stream import Stream
from penstock.kit.errors import NotFound, PlatformError

Body = dict[str, Any]


class Translated(Struct, frozen=True, kw_only=True):
    """A request in OpenAI's words.

    `path` is the engine's, "" where the engine needs not be asked: once the service is awake, `whole(200, b"", …)` is the
    answer. `model` is the name that the caller said, and the value of `model` in `body`. `max_tokens` is 0 where the caller
    sets no limit. `asked` is the caller's path, which tells `whole` and `stream` what to answer.
    """

    asked: str
    path: str
    model: str
    body: bytes
    streams: bool = False
    max_tokens: int = 0


class CallInfo(Struct, frozen=True):
    """`created` is when the request came, in Unix seconds; `elapsed_s()` is the time since then."""

    request_id: str
    created: float
    elapsed_s: Callable[[], float]


class Dialect(Protocol):
    """One protocol. `name` is its word in `ServiceRoute.protocols`: an engine that says it speaks it needs no translation."""

    @property
    def name(self) -> str:
        """`anthropic` or `ollama`."""

    def request(self, path: str, body: bytes) -> Translated:
        """Raises InvalidInput with the field's path, also for what cannot be said in OpenAI's words; NotFound for another path."""

    def whole(self, status: int, body: bytes, asked: Translated, info: CallInfo) -> tuple[int, bytes]:
        """Status and body for the caller, of the engine's complete answer or its error.

        The status is the engine's, save where an answer of 200 cannot be understood: that is a 502.
        """

    def stream(self, asked: Translated, info: CallInfo) -> Stream:
        """For an answer of 200 with content type text/event-stream."""

    def content_type(self, streams: bool) -> bytes:
        """Of the answer."""

    def error_body(self, error: PlatformError, request_id: str) -> bytes:
        """The gateway's own refusal, before an answer began; later it is `Stream.fail`."""


def explain(error: PlatformError) -> str:
    """Message and hint, as one text for shapes that have one field for it."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


def not_offered(path: str, whose: str, offered: Sequence[str]) -> NotFound:
    """For the rest of a protocol, which serves other ends than to ask a model."""
    return NotFound(
        f"{path} of {whose}'s API is not offered here",
        code="unknown_path",
        hint=f"there are {', '.join(offered)}",
    )


def given(**fields: Any) -> Body:
    """The fields that the caller gave."""
    return {name: value for name, value in fields.items() if value is not None}


def encode(body: Body) -> bytes:
    """The engine's body; values of the caller's that are passed on as they are (Raw) keep their bytes."""
    return msgspec.json.encode(body)
