"""Twenty people streaming: a bounded load that knows how each of its streams ended."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field

import httpx

from plain_http import PATIENT

QUESTIONS = (
    "What is Penstock?",
    "What is a KV cache?",
    "What is the capital of France?",
    "Tell me a short story.",
)


@dataclass
class Load:
    """`clients` loops of streamed chats until `stop`; `outcomes` counts how each stream ended.

    completed: ended with [DONE]; error_object: an error object inside the stream; cut: ended with neither;
    refused: no connection; http_NNN: another status than 200 before the stream.
    """

    base_url: str
    model: str = "quickstart"
    clients: int = 20
    max_tokens: int = 200
    endless: bool = False
    """Let the model talk until its limit, another one for each client, so that streams are long and out of step."""
    outcomes: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Load:
        limits = httpx.Limits(max_connections=self.clients, max_keepalive_connections=self.clients)
        self._client = httpx.AsyncClient(base_url=self.base_url, limits=limits, **PATIENT)
        self._tasks = [asyncio.create_task(self._loop(i)) for i in range(self.clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        done, late = await asyncio.wait(self._tasks, timeout=60)
        for task in late:
            task.cancel()
        await self._client.aclose()
        assert not late, f"{len(late)} streams were still running a minute after the load had ended"
        for task in done:
            task.result()

    def failures(self) -> dict[str, int]:
        """Everything but completed streams."""
        return {outcome: n for outcome, n in self.outcomes.items() if outcome != "completed"}

    async def _loop(self, number: int) -> None:
        turn = number
        while not self._stop.is_set():
            outcome = await self._one(QUESTIONS[turn % len(QUESTIONS)], self.max_tokens - 5 * number)
            self.outcomes[outcome] += 1
            turn += 1
            if outcome == "refused":
                await asyncio.sleep(0.05)

    async def _one(self, question: str, max_tokens: int) -> str:
        body = {
            "model": self.model,
            "stream": True,
            "max_tokens": max_tokens,
            "ignore_eos": self.endless,
            "messages": [{"role": "user", "content": question}],
        }
        try:
            async with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    self.details.append((await answer.aread()).decode(errors="replace")[:300])
                    return f"http_{answer.status_code}"
                return await self._read(answer)
        except httpx.ConnectError as error:
            self.details.append(repr(error))
            return "refused"
        except httpx.TransportError as error:
            self.details.append(repr(error))
            return "cut"

    async def _read(self, answer: httpx.Response) -> str:
        async for line in answer.aiter_lines():
            if not line.startswith("data:"):
                continue
            data = line[5:].strip()
            if data == "[DONE]":
                return "completed"
            if "error" in json.loads(data):
                self.details.append(data[:300])
                return "error_object"
        return "cut"
