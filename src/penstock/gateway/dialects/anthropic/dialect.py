"""Anthropic's Messages API as the gateway plugs it in."""

from __future__ import annotations

from penstock.gateway.dialects.anthropic import answer
from penstock.gateway.dialects.anthropic.events import Events
from penstock.gateway.dialects.anthropic.request import translate
from penstock.gateway.dialects.dialect import CallInfo, Translated, explain
from penstock.gateway.dialects.stream import Stream
from penstock.kit.errors import PlatformError


class Anthropic:
    """Has no state."""

    name = "anthropic"

    def request(self, path: str, body: bytes) -> Translated:
        """Raises InvalidInput with the field's path, NotFound for another path."""
        return translate(path, body)

    def whole(self, status: int, body: bytes, asked: Translated, info: CallInfo) -> tuple[int, bytes]:
        """Status and body for the caller."""
        return answer.whole(status, body, asked, info.request_id)

    def stream(self, asked: Translated, info: CallInfo) -> Stream:
        """Named events; there is no [DONE]."""
        return Stream(Events(asked.model, info.request_id))

    def content_type(self, streams: bool) -> bytes:
        """Of the answer."""
        return b"text/event-stream; charset=utf-8" if streams else b"application/json"

    def error_body(self, error: PlatformError, request_id: str) -> bytes:
        """`{"type": "error", "error": {"type", "message"}, "request_id"}`."""
        return answer.error_body(error.status, explain(error), request_id)
