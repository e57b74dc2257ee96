"""A streamed chat, and when its first token came."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import httpx


@dataclass(frozen=True)
class Timed:
    """A start by its parts, in milliseconds, in order; together they are the whole."""

    parts_ms: dict[str, float]

    @property
    def total_ms(self) -> float:
        return sum(self.parts_ms.values())

    @classmethod
    def between(cls, moments: dict[str, float], began: float) -> Timed:
        """From the Unix times at which the parts ended."""
        parts, before = {}, began
        for name, at in moments.items():
            parts[name], before = 1000 * (at - before), at
        return cls(parts)


def first_token(client: httpx.Client, model: str) -> float:
    """The Unix time at which the first content came; the stream is read to its end."""
    body = {
        "model": model,
        "stream": True,
        "max_tokens": 4,
        "messages": [{"role": "user", "content": "What is Penstock?"}],
    }
    came = 0.0
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if came or not line.startswith("data: {"):
                continue
            if json.loads(line[6:])["choices"][0]["delta"].get("content"):
                came = time.time()
    if not came:
        raise SystemExit(f"no token came: {answer.status_code}")
    return came
