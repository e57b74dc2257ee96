"""Server-sent events of OpenAI's chat completions and completions, piece by piece: when text came, and what the answer says of itself."""

from __future__ import annotations

from msgspec import DecodeError, Struct, ValidationError, field
from msgspec.json import Decoder

MAX_EVENT_BYTES = 4 << 20


class PromptDetails(Struct):
    """Of OpenAI's usage."""

    cached_tokens: int | None = None


class Usage(Struct):
    """What the request cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None


class Delta(Struct):
    """A piece of a chat's answer; engines that think aloud call that text `reasoning_content` or `reasoning`."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[object] | None = None


class Choice(Struct):
    """Of one event."""

    text: str | None = None
    delta: Delta | None = None


class Fault(Struct):
    """OpenAI's error."""

    message: str = ""
    code: str | int | None = None
    type: str | None = None


class Event(Struct):
    """One event, of either API."""

    choices: list[Choice] = field(default_factory=list)
    usage: Usage | None = None
    error: Fault | str | None = None


class Stream:
    """Fed with bytes as they come. `pieces` counts events that had text, `text` is all of it where it is kept."""

    decoder = Decoder(Event)

    def __init__(self, *, keeps_text: bool) -> None:
        self.usage: Usage | None = None
        self.error: Fault | None = None
        self.is_done = self.is_malformed = False
        self._keeps_text = keeps_text
        self._texts: list[str] = []
        self._rest = b""

    @property
    def text(self) -> str:
        """So far."""
        return "".join(self._texts)

    def feed(self, data: bytes) -> int:
        """How many events with text the piece completed."""
        if self._rest:
            data = self._rest + data
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            self.is_malformed, self._rest = True, b""
        return sum(self._line(line) for line in lines if line[:5] == b"data:")

    def _line(self, line: bytes) -> bool:
        payload = line[5:].strip()
        if payload == b"[DONE]":
            self.is_done = True
            return False
        try:
            event = self.decoder.decode(payload)
        except (DecodeError, ValidationError):
            self.is_malformed = True
            return False
        if event.error is not None:
            self.error = event.error if isinstance(event.error, Fault) else Fault(event.error)
        if event.usage is not None:
            self.usage = event.usage
        return sum(map(self._has_text, event.choices)) > 0

    def _has_text(self, choice: Choice) -> bool:
        delta = choice.delta
        said = choice.text or (delta.content if delta is not None else None)
        if said and self._keeps_text:
            self._texts.append(said)
        return bool(said) or (
            delta is not None and bool(delta.reasoning_content or delta.reasoning or delta.tool_calls)
        )
