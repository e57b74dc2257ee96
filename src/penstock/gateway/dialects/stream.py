"""An engine's stream of events, cut and joined by the network as it may be, told in another protocol as it comes."""

from __future__ import annotations

from typing import Protocol

from msgspec import UNSET

from penstock.gateway.dialects.openai import COMPLETION, FAILURES, Completion, error_status, error_text

MAX_EVENT_BYTES = 1 << 20
"""An event beyond this ends the stream with an error: the part that has come is held in memory."""


class EngineFault(Exception):
    """What the engine streams cannot be told on. The message is for the caller."""


class Voice(Protocol):
    """How a protocol says what happens in a stream. Each returns the bytes to send, b"" for nothing."""

    def chunk(self, chunk: Completion) -> bytes:
        """A chunk came. Raises EngineFault for one that makes no sense."""

    def done(self) -> bytes:
        """The answer is complete. Raises EngineFault if it cannot be."""

    def error(self, status: int, message: str) -> bytes:
        """It is not, and nothing more will come."""


class Stream:
    """One answer. Once `over`, all has been said; what the engine still sends is of no use."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._events = _Events()
        self.over = False

    def feed(self, data: bytes) -> bytes:
        """What the caller is to get for the bytes that came: whole events are never held back."""
        return b"".join(map(self._event, self._events.feed(data))) + self._check()

    def end(self) -> bytes:
        """The engine's answer ended: the last bytes for the caller, an error if it ended too early."""
        told = b"".join(map(self._event, self._events.feed(b"\n\n"))) + self._check()
        return told + self.fail(502, "the engine's stream ended before its answer was complete")

    def fail(self, status: int, message: str) -> bytes:
        """The answer cannot go on, for the gateway's own reasons: the last bytes for the caller."""
        if self.over:
            return b""
        self.over = True
        return self._voice.error(status, message)

    def _check(self) -> bytes:
        if not self._events.overflowed:
            return b""
        return self.fail(502, f"the engine sent an event of more than {MAX_EVENT_BYTES} bytes")

    def _event(self, data: bytes) -> bytes:
        if self.over:
            return b""
        try:
            if data.startswith(b"[DONE]"):
                told = self._voice.done()
                self.over = True
                return told
            chunk = COMPLETION.decode(data)
            if chunk.error is not UNSET and bytes(chunk.error) != b"null":
                return self.fail(error_status(bytes(chunk.error)), error_text(bytes(chunk.error)))
            return self._voice.chunk(chunk)
        except FAILURES as error:
            return self.fail(502, f"the engine sent an event that cannot be read: {error}")
        except EngineFault as fault:
            return self.fail(502, str(fault))


class _Events:
    """Cuts bytes into the data of server-sent events (WHATWG HTML, 9.2.6; a lone CR ends no line here, as no engine sends it)."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self.overflowed = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are complete now; none any more after an overflow."""
        cut = data.rfind(b"\n")
        if cut < 0 or self.overflowed:
            self._hold(data)
            return []
        lines = (bytes(self._rest) + data[:cut]).split(b"\n")
        self._rest.clear()
        found = []
        for line in lines:
            event = self._line(line.removesuffix(b"\r"))
            if self.overflowed:
                return found
            if event is not None:
                found.append(event)
        self._hold(data[cut + 1 :])
        return found

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            event = b"\n".join(self._data) if self._data else None
            self._data.clear()
            self._size = 0
            return event
        self.overflowed = self._size + len(line) > MAX_EVENT_BYTES
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._size += len(line)
        return None

    def _hold(self, data: bytes) -> None:
        if not self.overflowed:
            self._rest += data
            self.overflowed = self._size + len(self._rest) > MAX_EVENT_BYTES + 1  # a CR may be the line's end
