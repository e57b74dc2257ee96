"""Ollama's API as the gateway plugs it in."""

from __future__ import annotations

from penstock.gateway.dialects.dialect import CallInfo, Translated, explain
from penstock.gateway.dialects.ollama import answer
from penstock.gateway.dialects.ollama.lines import Lines
from penstock.gateway.dialects.ollama.request import translate
from penstock.gateway.dialects.stream import Stream
from penstock.kit.errors import PlatformError


class Ollama:
    """Has no state."""

    name = "ollama"

    def request(self, path: str, body: bytes) -> Translated:
        """Raises InvalidInput with the field's path, NotFound for another path."""
        return translate(path, body)

    def whole(self, status: int, body: bytes, asked: Translated, info: CallInfo) -> tuple[int, bytes]:
        """Status and body for the caller."""
        return answer.whole(status, body, asked, info)

    def stream(self, asked: Translated, info: CallInfo) -> Stream:
        """Lines of JSON; the last says `done`."""
        return Stream(Lines(asked, info))

    def content_type(self, streams: bool) -> bytes:
        """Of the answer."""
        return b"application/x-ndjson" if streams else b"application/json"

    def error_body(self, error: PlatformError, request_id: str) -> bytes:
        """`{"error": "…"}`; the request's id is in its header."""
        return answer.error_body(explain(error))
