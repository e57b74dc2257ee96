"""The HTTP process's side of the pipeline: starts the child, gives it requests, hands its tokens out."""

from __future__ import annotations

import asyncio
import itertools
import logging
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from penstock.engine.frames import (
    Add,
    Cancel,
    Failed,
    Loaded,
    Sampling,
    Step,
    Unframer,
    Update,
    Upward,
    encode,
)
from penstock.engine.kv_events import Publisher
from penstock.engine.linked import started
from penstock.engine.metrics import Metrics
from penstock.engine.prefixes import BlockMirror, Removed, Stored
from penstock.kit.errors import Exhausted, Internal, PlatformError, Unavailable

MAX_REQUESTS = 1024
"""Requests in the batch and before it; beyond, the caller is asked to come again."""
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Generation:
    """One prompt under way. `updates` is bounded by the tokens that were asked for."""

    id: int
    prompt: Sequence[int]
    cached_tokens: int
    held: list[int]
    started: float
    updates: asyncio.Queue[Update] = field(default_factory=asyncio.Queue)
    tokens: list[int] = field(default_factory=list)
    last: float = 0.0


class Generator(Protocol):
    """What generates: the pipeline's process, or a simulation of one. `loaded` is None until it is ready."""

    metrics: Metrics
    loaded: Loaded | None

    def begin(self, prompt: Sequence[int], sampling: Sampling) -> Generation:
        """Start one. Raises Unavailable while the model loads, Exhausted when too many are under way."""
        ...

    def updates(self, generation: Generation) -> AsyncIterator[Update]:
        """What the generation brings, until its end."""
        ...

    def cancel(self, generation: Generation) -> None:
        """Stop it, if it still runs."""
        ...


class Engine:
    """One child process and the generations in it."""

    def __init__(
        self, command: Sequence[str], metrics: Metrics, mirror: BlockMirror, publisher: Publisher | None
    ) -> None:
        """`command` are the child's arguments but for its descriptor."""
        self._command = command
        self.metrics = metrics
        self._mirror = mirror
        self._publisher = publisher
        self._numbers = itertools.count(1)
        self._live: dict[int, Generation] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self.loaded: Loaded | None = None
        self.ended = asyncio.Event()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Until the child ends. Raises PlatformError if it could not load the model, or died."""
        self._process, ours = started("penstock.engine.child", *self._command)
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        unframer = Unframer(Upward)
        try:
            while data := await reader.read(1 << 20):
                for message in unframer.feed(data):
                    self._take(message)
        finally:
            self._end()
        code = await asyncio.to_thread(self._process.wait)
        raise Internal(f"the pipeline's process ended with code {code}", code="engine_crashed")

    def close(self) -> None:
        """End the child."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def running(self) -> int:
        """Generations under way."""
        return len(self._live)

    def begin(self, prompt: Sequence[int], sampling: Sampling) -> Generation:
        """Start one. Raises Unavailable while the model loads, Exhausted when too many are under way."""
        if self.loaded is None or self.ended.is_set():
            raise Unavailable("the model is still loading", code="model_loading", retry_after_s=1.0)
        if len(self._live) >= MAX_REQUESTS:
            raise Exhausted(f"{MAX_REQUESTS} requests are under way", code="queue_full", retry_after_s=1.0)
        cached = self._mirror.cached_tokens(prompt)
        events, held = self._mirror.begin(prompt)
        self._publish(events)
        generation = Generation(next(self._numbers), prompt, cached, held, time.monotonic())
        self._live[generation.id] = generation
        self._writer.write(encode(Add(generation.id, list(prompt), sampling)))
        self.metrics.prompt_tokens.inc(len(prompt))
        self.metrics.prefix_queries.inc(len(prompt))
        self.metrics.prefix_hits.inc(cached)
        return generation

    async def updates(self, generation: Generation) -> AsyncIterator[Update]:
        """What the generation brings, until its end. Raises Internal if the pipeline fails."""
        while True:
            update = await generation.updates.get()
            if update.finish == "error":
                raise Internal(f"the pipeline refused the request: {update.error}", code="generation_failed")
            yield update
            if update.finish:
                return

    def cancel(self, generation: Generation) -> None:
        """Stop it, if it still runs."""
        if self._live.pop(generation.id, None) is not None:
            self._writer.write(encode(Cancel(generation.id)))
            self._settle(generation, "abort")

    def _take(self, message: Loaded | Failed | Step) -> None:
        if isinstance(message, Failed):
            raise PlatformError(message.message, code=message.code)
        if isinstance(message, Loaded):
            self.loaded = message
            self.ready.set()
            return
        for update in message.updates:
            generation = self._live.get(update.id)
            if generation is not None:
                self._hand_out(generation, update)
        self.metrics.load(message.running, max(0, len(self._live) - message.running), message.kv_usage)

    def _hand_out(self, generation: Generation, update: Update) -> None:
        now = time.monotonic()
        if update.tokens:
            self.metrics.generation_tokens.inc(len(update.tokens))
            if not generation.tokens:
                self.metrics.first_token.observe(now - generation.started)
                self._mirror.computed(generation.held)
            else:
                each = (now - generation.last) / len(update.tokens)
                self.metrics.between_tokens.observe(each)
                self.metrics.per_token.observe(each)
            generation.tokens.extend(update.tokens)
            generation.last = now
        if update.finish:
            self._live.pop(generation.id, None)
            self._settle(generation, update.finish)
        generation.updates.put_nowait(update)

    def _settle(self, generation: Generation, reason: str) -> None:
        """The last token was never fed back, so its keys and values are not in the cache."""
        computed = [*generation.prompt, *generation.tokens[:-1]]
        self._publish(
            self._mirror.end(generation.held, computed)
            if generation.tokens
            else self._mirror.abandon(generation.held)
        )
        self.metrics.whole.observe(time.monotonic() - generation.started)
        self.metrics.finished(reason)

    def _publish(self, events: Sequence[Stored | Removed]) -> None:
        if self._publisher is not None:
            self._publisher.publish(events)

    def _end(self) -> None:
        self.ended.set()
        for generation in self._live.values():
            generation.updates.put_nowait(Update(generation.id, finish="error", error="its process ended"))
        self._live.clear()
