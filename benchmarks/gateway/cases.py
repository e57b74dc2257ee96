"""What is asked of each system: bodies, how many at once, and what a whole answer is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway.measure import Load

EVENTS = 100
INTERVAL_MS = 20
USAGE_EVENTS = 1
HELD_EVENTS, HELD_INTERVAL_MS = 1_000_000, 1_000


@dataclass(frozen=True)
class Case:
    """`unit` is what CPU time is divided by."""

    name: str
    title: str
    body: str
    connections: int
    unit: str = "request"
    is_new: bool = False

    @property
    def is_alone(self) -> bool:
        """One request at a time."""
        return self.connections == 1

    @property
    def streams(self) -> bool:
        return self.unit == "chunk"


CASES = (
    Case("1k-c1", "1 KB, c=1", "1k", 1),
    Case("1k-c64", "1 KB, c=64", "1k", 64),
    Case("16k-c1", "16 KB, c=1", "16k", 1),
    Case("16k-c64", "16 KB, c=64", "16k", 64),
    Case("streams-256", "256 streams of 100 chunks", "stream", 256, unit="chunk"),
    Case("new-c8", "1 KB, c=8, a new connection each", "1k", 8, is_new=True),
)


def chat(size: int, **fields: Any) -> bytes:
    """A chat completion request of about `size` bytes."""
    asked = {"model": "m", **fields, "messages": [{"role": "user", "content": ""}]}
    words = "what does the water do when the gate is open " * (size // 40)
    asked["messages"][0]["content"] = words[: size - len(json.dumps(asked))]
    return json.dumps(asked, separators=(",", ":")).encode()


def _stream(events: int, interval_ms: int) -> bytes:
    return chat(
        1024, max_tokens=events, seed=interval_ms, stream=True, stream_options={"include_usage": True}
    )


BODIES = {
    "1k": chat(1024),
    "16k": chat(16384),
    "stream": _stream(EVENTS, INTERVAL_MS),
    "held": _stream(HELD_EVENTS, HELD_INTERVAL_MS),
}


class Requests:
    """The requests as files in a folder; those of all systems differ in nothing but the key."""

    def __init__(self, folder: Path, key: str) -> None:
        self.headers = {
            "content-type": "application/json",
            "accept": "*/*",
            "user-agent": "bench",
            "authorization": f"Bearer {key}",
        }
        self._folder = folder
        for name, body in BODIES.items():
            lines = [
                "POST /v1/chat/completions HTTP/1.1",
                "host: bench",
                f"content-length: {len(body)}",
                *(f"{key}: {value}" for key, value in self.headers.items()),
            ]
            (folder / f"{name}.head").write_text("\r\n".join([*lines, "", ""]), newline="")
            (folder / f"{name}.body").write_bytes(body)

    def load(self, case: Case, seconds: float) -> Load:
        head, body = self._files(case.body)
        if case.streams:
            return Load(head, body, case.connections, 0, EVENTS + USAGE_EVENTS)
        return Load(head, body, case.connections, seconds, is_new=case.is_new)

    def held(self, streams: int) -> Load:
        """Streams that stay open, with an event a second each."""
        return Load(*self._files("held"), streams, 0, HELD_EVENTS, holds=True)

    def _files(self, name: str) -> tuple[Path, Path]:
        return self._folder / f"{name}.head", self._folder / f"{name}.body"
