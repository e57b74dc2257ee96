"""Listens to what one engine tells about its KV cache, and keeps an index true to it.

An engine is told apart by its endpoint's name. What it tells is applied in order, in slices of a few milliseconds, one engine at a
time. While a replay is under way, what is told meanwhile waits in the socket.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import Raw

from penstock.decide import kv_sequence
from penstock.decide.kv_sequence import Step
from penstock.gateway.kv_event_codec import (
    Batch,
    Cleared,
    Malformed,
    Removed,
    Stored,
    batch_of,
    event_of,
)
from penstock.gateway.kv_socket import KvSocket
from penstock.kit.clock import SteadyClock

WAITING_BATCHES = 1_000
"""That wait in a socket; what exceeds them waits at the engine, which drops beyond its own limit, and so shows as a gap."""
REPLAYED_BATCHES = 20_000
"""Taken from one replay at most; engines keep 10,000."""
REPLAY_TRIES = 32
"""Each goes on where the last broke off: engines drop what a replay has beyond some thousand batches."""
REPLAYS_AT_ONCE = 8
REPLAY_TIMEOUT_S = 2.0
"""For the next batch of a replay."""
RANK_S = 30.0
"""How long one of several ranks may be silent before another is heard instead."""
SLICE_BLOCKS, SLICE_TOKENS = 256, 8192
"""As many of the engine's blocks, or as few as have so many tokens, at once."""
TURN_S = 0.002
"""How long the loop is held before others have their turn."""
END = b"\xff" * 8


class Index(Protocol):
    """What is known of which blocks endpoints hold."""

    def stored(
        self,
        endpoint: str,
        parent: int | bytes | None,
        hashes: Sequence[int | bytes],
        tokens: Sequence[int],
        block_size: int,
        adapter: str,
        extra: Sequence[Any],
        /,
    ) -> None:
        """It holds these blocks, chained on `parent`; hashes are the engine's own."""
        ...

    def removed(self, endpoint: str, hashes: Sequence[int | bytes], /) -> None:
        """It holds these no more."""
        ...

    def cleared(self, endpoint: str, /) -> None:
        """It holds nothing."""
        ...

    def distrust(self, endpoint: str, /) -> None:
        """Something was missed: what it was known to hold is only likely."""
        ...

    def trust(self, endpoint: str, /) -> None:
        """It holds what it was told to hold, and nothing was missed, as far as is known."""
        ...

    def restarted(self, endpoint: str, /) -> None:
        """It is another process now, or all about it is told anew."""
        ...


class Source(NamedTuple):
    """Where an engine publishes; `replay` is "" where it does not tell again."""

    endpoint: str
    live: str
    replay: str


class Shared:
    """What all subscriptions of one KvEvents have in common."""

    def __init__(self, index: Index, context: Any) -> None:
        self.index, self.context = index, context
        self.counts: Counter[str] = Counter()
        self.replays = asyncio.Semaphore(REPLAYS_AT_ONCE)
        self.turn = asyncio.Lock()
        self.clock = SteadyClock()
        self._since = self.clock.monotonic()

    async def breathe(self) -> None:
        """Let others run if this has run for long."""
        if self.clock.monotonic() - self._since > TURN_S:
            await asyncio.sleep(0)
            self._since = self.clock.monotonic()


class Subscription:
    """What one endpoint tells."""

    def __init__(self, source: Source, shared: Shared) -> None:
        """Nothing is opened before it runs."""
        self._key, self._live, self._replay = source
        self._shared = shared
        self._has_gpu = self.is_trusted = False
        self._rank, self._rank_at = -1, 0.0
        self.state = kv_sequence.Sequence()

    async def run(self) -> None:
        """Until cancelled."""
        import zmq  # noqa: PLC0415

        socket = KvSocket(self._shared.context, zmq.SUB, self._live, WAITING_BATCHES)
        try:
            await self._join(kv_sequence.started(can_replay=bool(self._replay)), ())
            while True:
                frames = await socket.received()
                await self._heard(frames)
                await self._shared.breathe()
        finally:
            socket.close()

    async def _heard(self, frames: Sequence[bytes]) -> None:
        found = self._batch(frames[-2], frames[-1]) if len(frames) == 3 else None
        if found is None:
            self._shared.counts["malformed"] += 1
            return
        number, batch = found
        now = self._shared.clock.monotonic()
        if not await self._is_ours(batch.rank, now):
            return
        step = kv_sequence.heard(
            self.state, number, batch.at, now, can_replay=bool(self._replay), clears=batch.clears
        )
        await self._join(step, batch.events)

    async def _is_ours(self, rank: int, now: float) -> bool:
        """Ranks that publish on one socket count apart, and have caches of their own; one is heard, as long as it tells anything."""
        if rank != self._rank >= 0 and now - self._rank_at < RANK_S:
            self._shared.counts["other_rank"] += 1
            return False
        is_another, self._rank, self._rank_at = rank != self._rank >= 0, rank, now
        if is_another:
            await self._join(kv_sequence.started(can_replay=bool(self._replay)), ())
        return True

    async def _join(self, step: Step, events: Sequence[Raw]) -> None:
        await self._take(step, events)
        if step.replay_from >= 0:
            await self._catch_up(step.replay_from)

    async def _catch_up(self, start: int) -> None:
        for _ in range(REPLAY_TRIES):
            before = self.state
            async with self._shared.replays:
                is_whole = await self._ask_again(start)
            if is_whole and self.state.last >= self.state.target:
                await self._take(kv_sequence.replay_ended(self.state, self._shared.clock.monotonic()), ())
                return
            if self.state == before:
                break
            start = max(self.state.last, 0)
        await self._take(kv_sequence.replay_failed(self.state, self._shared.clock.monotonic()), ())

    async def _ask_again(self, start: int) -> bool:
        """Whether the replay came to its end; it breaks off where it has a hole, which is the engine's only if it begins with it."""
        import zmq  # noqa: PLC0415

        socket = KvSocket(self._shared.context, zmq.DEALER, self._replay, REPLAYED_BATCHES)
        has_begun = False
        try:
            socket.send([b"", start.to_bytes(8, "big")])
            for _ in range(REPLAYED_BATCHES):
                async with asyncio.timeout(REPLAY_TIMEOUT_S):
                    frames = await socket.received()
                if len(frames) in (3, 4) and frames[-2] == END:
                    return True
                found = self._batch(frames[-2], frames[-1]) if len(frames) in (3, 4) else None
                if found is None:
                    self._shared.counts["malformed"] += 1
                    continue
                if found[1].rank != self._rank >= 0:
                    continue
                step = kv_sequence.replayed(self.state, found[0], found[1].at)
                if step.outcome == "lost" and has_begun:
                    return False
                await self._take(step, found[1].events)
                await self._shared.breathe()
                has_begun |= step.apply
                if step.replay_from >= 0:
                    return False
            return False
        except TimeoutError:
            return False
        finally:
            socket.close()

    def _batch(self, number: bytes, payload: bytes) -> tuple[int, Batch] | None:
        if len(number) != 8 or number[0] & 0x80:
            return None
        try:
            return int.from_bytes(number, "big"), batch_of(payload)
        except Malformed:
            return None

    async def _take(self, step: Step, events: Sequence[Raw]) -> None:
        self.state = step.state
        self._shared.counts[step.outcome] += 1
        if step.drop:
            self._forget()
        if step.distrust:
            self.is_trusted = False
            self._shared.index.distrust(self._key)
        if step.trust and not self.is_trusted:
            self.is_trusted = True
            self._shared.index.trust(self._key)
        if step.apply:
            async with self._shared.turn:
                for event in events:
                    await self._apply(event)
                    await self._shared.breathe()

    def _forget(self) -> None:
        self._has_gpu = self.is_trusted = False
        self._shared.index.restarted(self._key)

    async def _apply(self, raw: Raw) -> None:
        """What cannot be read may have been a removal, so nothing that is known holds after it."""
        try:
            event = event_of(raw)
        except Malformed:
            self._shared.counts["malformed"] += 1
            self._forget()
            return
        await self._shared.breathe()
        index = self._shared.index
        if isinstance(event, Cleared):
            index.cleared(self._key)
        elif event is not None and self._is_first_tier(event.medium):
            if isinstance(event, Removed):
                for start in range(0, len(event.hashes), SLICE_BLOCKS):
                    index.removed(self._key, event.hashes[start : start + SLICE_BLOCKS])
                    await self._shared.breathe()
            else:
                await self._store(event)

    async def _store(self, event: Stored) -> None:
        parent, size = event.parent, event.block_size
        step = min(SLICE_BLOCKS, max(SLICE_TOKENS // size, 1))
        for start in range(0, len(event.hashes), step):
            stop = start + step
            hashes, tokens = event.hashes[start:stop], event.tokens[start * size : stop * size]
            extra = event.extra[start:stop]
            self._shared.index.stored(self._key, parent, hashes, tokens, size, event.adapter, extra)
            parent = hashes[-1]
            await self._shared.breathe()

    def _is_first_tier(self, medium: str) -> bool:
        """An engine with a cache on its GPU tells of copies elsewhere too, which come and go by themselves."""
        self._has_gpu |= medium == "GPU"
        return not self._has_gpu or medium in ("GPU", "")
