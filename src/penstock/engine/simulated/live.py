"""The model under a real clock: requests come when they come, tokens when the model says."""

from __future__ import annotations

import asyncio
import itertools
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from itertools import islice

import xxhash

from penstock.engine.frames import Loaded, Sampling, Update
from penstock.engine.kv_events import Publisher
from penstock.engine.metrics import Metrics
from penstock.engine.prefixes import Cleared
from penstock.engine.prefixes import Removed as RemovedBlocks
from penstock.engine.prefixes import Stored as StoredBlocks
from penstock.engine.runner import MAX_REQUESTS, Generation
from penstock.engine.simulated.model import Engine
from penstock.engine.simulated.request import NEVER, Happened, Removed, Request
from penstock.engine.simulated.transfers import Transfer
from penstock.engine.text import Vocabulary
from penstock.kit.errors import Exhausted

RESOLUTION_S = 0.004
"""Steps shorter than this are told of together."""
KEPT_S = 1.0
"""How long another engine has to begin to fetch the blocks that were computed for it."""
ALONE = Transfer()
AT_ONCE = 256
"""Steps that are made up for before others have their turn."""
WORDS = [
    "and",
    "our",
    "was",
    "its",
    "she",
    "for",
    "the",
    "air",
    "has",
    "all",
    "one",
    "can",
    "you",
    "out",
    "sea",
    "day",
    "may",
    "two",
    "old",
    "way",
    "sun",
    "who",
    "new",
    "let",
    "run",
    "see",
    "",
]


class Simulation:
    """One simulated engine whose time runs `scale` times as fast as the clock's.

    Answers have `answer_tokens`, or as many as are asked for if that is less, or if the caller ignores their end; 0: as asked for.
    """

    def __init__(
        self,
        model: Engine,
        metrics: Metrics,
        publisher: Publisher | None,
        text: Vocabulary,
        *,
        scale: float = 1.0,
        answer_tokens: int = 0,
    ) -> None:
        self.model = model
        self.metrics = metrics
        self.loaded: Loaded | None = Loaded(model.pool.blocks)
        self._publisher = publisher
        self._scale = scale
        self._answer_tokens = answer_tokens
        self._spoken = text.encode("".join(f"{word} " for word in WORDS if word))
        self._began = time.monotonic()
        self._wake = asyncio.Event()
        self._numbers = itertools.count(1)
        self._live: dict[int, tuple[Generation, Request]] = {}
        self._lost_batches = 0

    @property
    def now(self) -> float:
        """Seconds of the model's time."""
        return (time.monotonic() - self._began) * self._scale

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for _ in range(AT_ONCE):
                if self.model.next_at > self.now:
                    break
                self._step()
            left_s = (self.model.next_at - self.now) / self._scale
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, left_s) if left_s < NEVER else None):
                    await self._wake.wait()

    def begin(
        self, prompt: Sequence[int], sampling: Sampling, adapter: str = "", transfer: Transfer = ALONE
    ) -> Generation:
        """Start one, with a LoRA adapter or without, alone or with another engine. Raises Exhausted when too many are under way."""
        if len(self._live) >= MAX_REQUESTS:
            raise Exhausted(f"{MAX_REQUESTS} requests are under way", code="queue_full", retry_after_s=1.0)
        tokens = sampling.max_tokens
        if self._answer_tokens and not sampling.ignore_eos:
            tokens = min(tokens, self._answer_tokens)
        size = self.model.profile.block_tokens
        answer = self._answer(prompt, tokens)
        hashes = block_hashes([*prompt, *answer], size, adapter)
        whole = len(prompt) // size
        generation = Generation(next(self._numbers), prompt, 0, [], time.monotonic())
        request = Request(
            len(prompt),
            tokens,
            hashes[:whole],
            hashes[whole:],
            adapter=adapter,
            remote_tokens=len(prompt) if transfer.is_remote else 0,
            is_kept=transfer.is_kept,
            data=(generation, answer, "length" if tokens == sampling.max_tokens else "stop"),
        )
        self._live[generation.id] = generation, request
        self.model.offer(request, self._caught_up())
        return generation

    async def updates(self, generation: Generation) -> AsyncIterator[Update]:
        """What the generation brings, until its end."""
        while True:
            update = await generation.updates.get()
            yield update
            if update.finish:
                return

    def cancel(self, generation: Generation) -> None:
        """Stop it, if it still runs."""
        found = self._live.pop(generation.id, None)
        if found is not None:
            self.model.cancel(found[1], self._caught_up())
            self.metrics.finished("abort")

    def forget(self) -> None:
        """The prefix cache is emptied, as by vLLM's /reset_prefix_cache."""
        self.model.forget()
        if self._publisher is not None:
            self._publisher.publish([Cleared()])

    def lose_events(self, batches: int) -> None:
        """So many of the next batches of KV events can only be had by replay."""
        self._lost_batches += batches

    def _answer(self, prompt: Sequence[int], tokens: int) -> list[int]:
        """Words that are the same for the same prompt."""
        start = sum(prompt) % len(self._spoken)
        return list(islice(itertools.cycle(self._spoken), start, start + tokens))

    def _caught_up(self) -> float:
        """Now; what is due by then has happened before something new does."""
        now = self.now
        while self.model.next_at <= now:
            self._step()
        self._wake.set()
        return now

    def _step(self) -> None:
        step_s = self.model.profile.step_base_s
        self.model.stride = max(1, int(RESOLUTION_S * self._scale / step_s)) if self._live else 0
        happened = self.model.step()
        for generation, request in self._live.values():
            self._hand_out(generation, request)
        for request in happened.ended:
            self._live.pop(request.data[0].id, None)
            if request.is_kept and not request.is_cancelled:
                fetched_s = self.model.profile.transfer_token_s * request.prompt_tokens / self._scale
                asyncio.get_running_loop().call_later(KEPT_S + fetched_s, self._release, request)
        self._publish(happened)
        self.metrics.load(self.model.running, self.model.waiting, self.model.kv_use)

    def _release(self, request: Request) -> None:
        """The other engine has the blocks."""
        self.model.release(request, self._caught_up())
        self.metrics.load(self.model.running, self.model.waiting, self.model.kv_use)

    def _hand_out(self, generation: Generation, request: Request) -> None:
        so_far = len(generation.tokens)
        fresh = self.model.generated(request) - so_far
        if fresh <= 0:
            return
        _, answer, reason = request.data
        now, metrics = time.monotonic(), self.metrics
        if not so_far:
            generation.cached_tokens = request.cached_tokens
            metrics.first_token.observe(now - generation.started)
            metrics.prompt_tokens.inc(request.prompt_tokens)
            metrics.prefix_queries.inc(request.prompt_tokens)
            metrics.prefix_hits.inc(request.cached_tokens)
        else:
            metrics.between_tokens.observe((now - generation.last) / fresh)
            metrics.per_token.observe((now - generation.last) / fresh)
        metrics.generation_tokens.inc(fresh)
        tokens = answer[so_far : so_far + fresh]
        generation.tokens.extend(tokens)
        generation.last = now
        finish = reason if request.ended_at < NEVER else ""
        if finish:
            metrics.whole.observe(now - generation.started)
            metrics.finished(finish)
        generation.updates.put_nowait(Update(generation.id, tokens=tokens, finish=finish))

    def _publish(self, happened: Happened) -> None:
        if self._publisher is None or not happened.blocks:
            return
        events: list[StoredBlocks | RemovedBlocks] = []
        for event in happened.blocks:
            if isinstance(event, Removed):
                events.append(RemovedBlocks(event.hashes))
                continue
            request, first, end = event
            (generation, answer, _), size = request.data, self.model.profile.block_tokens
            hashes = (*request.hashes, *request.answer_hashes)
            tokens = (*generation.prompt, *answer)[first * size : end * size]
            parent = hashes[first - 1] if first else None
            events.append(StoredBlocks(hashes[first:end], parent, tokens, request.adapter))
        self._publisher.publish(events, is_lost=self._lost_batches > 0)
        self._lost_batches = max(0, self._lost_batches - 1)


class Aspect:
    """A simulation as one kind of client sees it: of a LoRA adapter, or with another engine."""

    def __init__(self, simulation: Simulation, adapter: str, transfer: Transfer = ALONE) -> None:
        self._simulation = simulation
        self.adapter = adapter
        self._transfer = transfer
        self.metrics = simulation.metrics
        self.loaded = simulation.loaded

    def begin(self, prompt: Sequence[int], sampling: Sampling) -> Generation:
        """See Simulation."""
        return self._simulation.begin(prompt, sampling, self.adapter, self._transfer)

    def updates(self, generation: Generation) -> AsyncIterator[Update]:
        """See Simulation."""
        return self._simulation.updates(generation)

    def cancel(self, generation: Generation) -> None:
        """See Simulation."""
        self._simulation.cancel(generation)


def block_hashes(tokens: Sequence[int], size: int, adapter: str) -> list[int]:
    """63 bits per whole block of `size` tokens, chained on the block before and the adapter."""
    raw = memoryview(array("I", tokens).tobytes())
    parent, hashes = xxhash.xxh3_64_intdigest(adapter.encode()), []
    for start in range(0, len(tokens) - size + 1, size):
        parent = xxhash.xxh3_64_intdigest(raw[4 * start : 4 * (start + size)], seed=parent) >> 1
        hashes.append(parent)
    return hashes
