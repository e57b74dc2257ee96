"""What happens to an answer's body on its way through: usage is read, a dialect is spoken; nothing whole is ever held back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from penstock.gateway.call import Call
from penstock.gateway.dialects.dialect import CallInfo, Dialect, Translated, explain
from penstock.gateway.errors import error_event
from penstock.gateway.usage import StreamUsage, Usage, WholeUsage
from penstock.gateway.wire.message import Answer
from penstock.kit.errors import PlatformError, Unavailable

EVENTS = b"text/event-stream"
MAX_COLLECTED_BYTES = 64 << 20
"""An answer that has to be translated whole may not be longer."""


class Relay(Protocol):
    """Between an engine's body and the caller's."""

    @property
    def usage(self) -> Usage:
        """What the engine told of tokens."""

    def feed(self, data: bytes) -> bytes:
        """What may go to the caller now."""

    def finish(self) -> bytes:
        """The engine's body is complete: the last bytes for the caller."""

    def broken(self, error: PlatformError) -> bytes | None:
        """It never will be: last words, None where the caller's connection has to be cut so that nobody takes it for whole."""


class Whole:
    """A body that is passed on as it is."""

    __slots__ = ("feed", "finish", "usage")

    def __init__(self, *, ollama: bool) -> None:
        self.usage = WholeUsage(ollama=ollama)
        self.feed = self.usage.feed
        self.finish = self.usage.finish

    def broken(self, error: PlatformError) -> bytes | None:
        return None


class Events:
    """Server-sent events, as the engine tells them."""

    __slots__ = ("feed", "finish", "usage")

    def __init__(self, *, strip: bool) -> None:
        self.usage = StreamUsage(strip=strip)
        self.feed = self.usage.feed
        self.finish = self.usage.finish

    def broken(self, error: PlatformError) -> bytes | None:
        return error_event(error) if self.usage.at_boundary else None


class Told:
    """Server-sent events told in another protocol."""

    def __init__(self, dialect: Dialect, asked: Translated, info: CallInfo) -> None:
        self.usage = StreamUsage()
        self._stream = dialect.stream(asked, info)

    def feed(self, data: bytes) -> bytes:
        return self._stream.feed(self.usage.feed(data))

    def finish(self) -> bytes:
        return self._stream.end()

    def broken(self, error: PlatformError) -> bytes | None:
        return self._stream.fail(error.status, explain(error))


class Collected:
    """A whole answer, or an engine's error, that is told in another protocol when it is complete."""

    def __init__(self, status: int, dialect: Dialect, asked: Translated, info: CallInfo) -> None:
        self.usage = WholeUsage()
        self._dialect, self._asked, self._info = dialect, asked, info
        self._body = bytearray()
        self.status = status

    def feed(self, data: bytes) -> bytes:
        self._body += self.usage.feed(data)
        if len(self._body) > MAX_COLLECTED_BYTES:
            raise Unavailable("the engine's answer is too long to be translated", code="answer_too_large")
        return b""

    def finish(self) -> bytes:
        self.status, body = self._dialect.whole(self.status, bytes(self._body), self._asked, self._info)
        return body

    def broken(self, error: PlatformError) -> bytes | None:
        return None


def relay_for(call: Call, answer: Answer, info: Callable[[], CallInfo]) -> Relay:
    """The one that fits what was asked and what is answered."""
    streams = answer.media == EVENTS
    if call.asked is not None:
        assert call.dialect is not None
        if streams and answer.status == 200:
            return Told(call.dialect, call.asked, info())
        return Collected(answer.status, call.dialect, call.asked, info())
    if streams:
        return Events(strip=call.streams and not call.wants_usage and call.target.tells_usage)
    return Whole(ollama=call.target.protocol == "ollama")
