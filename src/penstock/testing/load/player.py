"""Plays a workload against one target: in an open loop by the clock, in a closed one by so many conversations at a time.

An open loop is never slowed down by answers: each first turn is sent when it is due, however many are under way, and times count from
then on. What the load itself sends late is recorded (`Outcome.late_s`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import msgspec
from msgspec import Struct

from penstock.kit.clock import Clock, SteadyClock
from penstock.testing.load.arrivals import poisson
from penstock.testing.load.client import Client
from penstock.testing.load.conversation import Conversation, Turn, Workload
from penstock.testing.load.outcome import Outcome
from penstock.testing.load.target import PATHS, Api
from penstock.testing.load.text import Writer

MAX_OPEN = 16_000
"""Requests under way; further ones are not sent, and counted as errors of this name."""
PAUSE_S = 0.1
"""After a failure in a closed loop, or a server that is down would be asked ten thousand times a second."""
TOO_MANY = "not sent: too many under way"
Message = dict[str, str]
Told = Callable[[Outcome], None]


class Pace(Struct, frozen=True, kw_only=True):
    """`rate_per_s` conversations begin a second, or `concurrency` are under way at a time; with neither the workload has its own times.

    It lasts `duration_s` or `requests` requests, whichever comes first. What is due in the first `warmup_s` is sent, but not counted.
    """

    rate_per_s: float | None = None
    concurrency: int | None = None
    duration_s: float | None = None
    requests: int | None = None
    warmup_s: float = 0.0
    ramp_s: float = 0.0


class Speech(Struct, frozen=True, kw_only=True):
    """How requests are put."""

    model: str
    api: Api = "chat"
    ignores_eos: bool = True


class Recording(NamedTuple):
    """`outcomes` in order of their ends; those due before `counted_from` are warm-up. Throughput is measured from there to `until`."""

    outcomes: list[Outcome]
    counted_from: float
    until: float


class Player:
    """One run."""

    def __init__(
        self,
        client: Client,
        writer: Writer,
        speech: Speech,
        told: Told = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._client, self._writer, self._speech, self._told = client, writer, speech, told
        self._clock = clock or SteadyClock()
        self._outcomes: list[Outcome] = []
        self._tasks: set[asyncio.Task[bool]] = set()
        self._begun = self._counted_from = 0.0
        self._until = float("inf")
        self._left = 0

    async def play(self, workload: Workload, pace: Pace, seed: int) -> Recording:
        """Until the last answer is there, or timed out. Of a run that is cancelled, `recorded` has what ended before."""
        begun = self._begun = self._clock.monotonic()
        self._counted_from = begun + pace.warmup_s
        self._until = begun + pace.duration_s if pace.duration_s is not None else float("inf")
        self._left = pace.requests if pace.requests is not None else -1
        conversations = workload.conversations(seed)
        try:
            if pace.concurrency is not None:
                await self._closed(conversations, pace, begun)
            else:
                await self._open(_starts(conversations, pace, seed), begun)
        finally:
            for task in self._tasks:
                task.cancel()
        return self.recorded()

    def recorded(self) -> Recording:
        """What has ended so far."""
        last = max((outcome.end for outcome in self._outcomes), default=self._begun)
        return Recording(self._outcomes, self._counted_from, min(self._until, last))

    async def _open(self, starts: Iterator[tuple[float, Conversation]], begun: float) -> None:
        for at_s, conversation in starts:
            due = begun + at_s
            if due >= self._until or not self._may_ask():
                break
            asking = Asking(conversation, self._writer, self._speech)
            body = asking.body(conversation.turns[0])
            await asyncio.sleep(max(0.0, due - self._clock.monotonic()))
            if len(self._tasks) >= MAX_OPEN:
                self._record(Outcome(due=due, sent=due, end=due, error=TOO_MANY))
                continue
            task = asyncio.create_task(self._converse(asking, body, due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _closed(self, conversations: Iterator[Conversation], pace: Pace, begun: float) -> None:
        count = pace.concurrency or 1

        async def slot(number: int) -> None:
            await asyncio.sleep(pace.ramp_s * number / count)
            for conversation in conversations:
                if self._clock.monotonic() >= self._until or not self._may_ask():
                    return
                asking = Asking(conversation, self._writer, self._speech)
                answered = await self._converse(
                    asking, asking.body(conversation.turns[0]), self._clock.monotonic()
                )
                await asyncio.sleep(0.0 if answered else PAUSE_S)

        async with asyncio.TaskGroup() as slots:
            for number in range(count):
                slots.create_task(slot(number))

    async def _converse(self, asking: Asking, body: bytes, due: float) -> bool:
        """All turns, as long as answers come: whether all did. The first was allowed already."""
        turns = asking.conversation.turns
        for number, turn in enumerate(turns):
            if number:
                await asyncio.sleep(turn.think_s)
                due = self._clock.monotonic()
                if due >= self._until or not self._may_ask():
                    break
                body = asking.body(turn)
            goes_on = number + 1 < len(turns)
            outcome = await self._client.ask(PATHS[self._speech.api], body, due, keeps_text=goes_on)
            asking.heard(outcome.text)
            outcome.text = ""
            self._record(outcome)
            if not outcome.ok:
                return False
        return True

    def _may_ask(self) -> bool:
        if self._left == 0:
            return False
        self._left -= 1
        return True

    def _record(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._told(outcome)


class Asking:
    """A conversation as it goes: what was said so far."""

    def __init__(self, conversation: Conversation, writer: Writer, speech: Speech) -> None:
        self.conversation = conversation
        self._writer, self._speech = writer, speech
        self._said: list[Message] = []
        if conversation.system:
            self._said.append({"role": "system", "content": writer.text(conversation.system)})

    def body(self, turn: Turn) -> bytes:
        """The request that says this turn, after all that was said."""
        self._said.append({"role": "user", "content": self._writer.text(turn.pieces)})
        speech = self._speech
        prompt: dict[str, object] = (
            {"messages": self._said}
            if speech.api == "chat"
            else {"prompt": "".join(message["content"] for message in self._said)}
        )
        wishes = {"max_tokens": turn.output_tokens, "temperature": 0} | (
            {"ignore_eos": True} if speech.ignores_eos else {}
        )
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        return msgspec.json.encode({"model": speech.model, **prompt, **wishes, **stream})

    def heard(self, text: str) -> None:
        """The answer."""
        self._said.append({"role": "assistant", "content": text})


def _starts(
    conversations: Iterator[Conversation], pace: Pace, seed: int
) -> Iterator[tuple[float, Conversation]]:
    """Each with when it begins."""
    if pace.rate_per_s is not None:
        return zip(poisson(pace.rate_per_s, pace.ramp_s, seed), conversations, strict=False)
    return ((one.at_s or 0.0, one) for one in islice(conversations, pace.requests))
