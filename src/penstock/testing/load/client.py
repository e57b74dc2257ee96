"""Sends requests and takes the times of their streams, on the gateway's own HTTP client: thousands at a time from one core."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import Decoder

from penstock.gateway.wire.client import CutOff, NoAnswer, NotSent, Upstream, UpstreamError
from penstock.gateway.wire.pool import Pool
from penstock.kit.clock import Clock, SteadyClock
from penstock.testing.load.outcome import Outcome
from penstock.testing.load.stream import Fault, Stream
from penstock.testing.load.target import Target

MAX_ERROR_BYTES = 1 << 20
MAX_MESSAGE = 300
GET_S = 15.0
"""How long a request that does not stream may take."""
REFUSED = 400
"""Statuses from here on are errors."""


class Refusal(Struct):
    """The body of an answer that is an error, in OpenAI's form."""

    error: Fault | str | None = None


@dataclass(slots=True)
class Reply:
    """An answer to a request that does not stream."""

    status: int
    body: bytes


@dataclass(slots=True)
class _Exchange:
    """One request: `outcome` is filled in as the answer comes, then `done` is set."""

    clock: Clock
    outcome: Outcome
    stream: Stream
    done: asyncio.Future[UpstreamError | None]
    upstream: Upstream | None = None
    body: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    streams: bool = False

    def on_whole(self, upstream: Upstream, body: bytes) -> None:
        self.on_answer(upstream)
        self.on_data(body)
        self.on_complete()

    def on_answer(self, upstream: Upstream) -> None:
        answer = upstream.answer
        assert answer is not None, "an answer has a head"
        self.outcome.status = answer.status
        self.streams = answer.status < REFUSED and answer.media == b"text/event-stream"
        for name, value in answer.headers:
            if name == b"x-request-id":
                self.outcome.request_id = value.decode("latin-1")

    def on_data(self, data: bytes) -> None:
        if not self.streams:
            self.body_bytes += len(data)
            if self.body_bytes <= MAX_ERROR_BYTES:
                self.body.append(data)
            return
        pieces = self.stream.feed(data)
        if not pieces:
            return
        outcome, now = self.outcome, self.clock.monotonic()
        if outcome.first:
            outcome.gaps_s.append(now - outcome.last)
        else:
            outcome.first = now
        outcome.gaps_s.extend([0.0] * (pieces - 1))
        outcome.last = now

    def error(self) -> UpstreamError | TimeoutError | None:
        """What went wrong on the way; its time ran out if nobody said."""
        return TimeoutError("no end of the answer in time") if self.done.cancelled() else self.done.result()

    def on_complete(self) -> None:
        self.outcome.end = self.clock.monotonic()
        if not self.done.done():
            self.done.set_result(None)

    def on_broken(self, error: UpstreamError) -> None:
        if not self.done.done():
            self.done.set_result(error)


class Client:
    """One target. Connections are kept and used again; one that had been closed meanwhile is replaced once, as HTTP clients do."""

    refusals = Decoder(Refusal)

    def __init__(self, target: Target, timeout_s: float, clock: Clock | None = None) -> None:
        """The clock is not the loop's by default, since uvloop's counts whole milliseconds."""
        self.target = target
        self._timeout_s = timeout_s
        self._clock = clock or SteadyClock()
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(target.tls)
        self._address = (target.host, target.port)

    async def ask(self, path: str, body: bytes, due: float, *, keeps_text: bool = False) -> Outcome:
        """A request that streams. Never raises for what the server does: `Outcome.error` says it."""
        outcome = Outcome(due=due)
        data = self.target.request("POST", path, body)
        exchange = await self._exchange(data, outcome, Stream(keeps_text=keeps_text), self._timeout_s)
        self._judge(exchange)
        return outcome

    async def get(self, path: str) -> Reply:
        """A request that does not. Raises UpstreamError, TimeoutError."""
        outcome = Outcome(due=self._clock.monotonic())
        within_s = min(self._timeout_s, GET_S)
        exchange = await self._exchange(
            self.target.request("GET", path), outcome, Stream(keeps_text=False), within_s
        )
        if (error := exchange.error()) is not None:
            raise error
        return Reply(outcome.status, b"".join(exchange.body))

    def close(self) -> None:
        """Drop all connections."""
        self._pool.close()

    async def _exchange(self, data: bytes, outcome: Outcome, stream: Stream, within_s: float) -> _Exchange:
        outcome.sent = self._clock.monotonic()
        exchange = self._start(data, outcome, stream, is_fresh=False)
        try:
            async with asyncio.timeout(within_s):
                error = await exchange.done
                if isinstance(error, NoAnswer) and error.reused:
                    exchange = self._start(data, outcome, stream, is_fresh=True)
                    await exchange.done
        except (TimeoutError, asyncio.CancelledError) as error:
            if exchange.upstream is not None:
                exchange.upstream.leave()
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            if exchange.upstream is not None:
                self._pool.give(exchange.upstream)
        finally:
            outcome.end = outcome.end or self._clock.monotonic()
        return exchange

    def _start(self, data: bytes, outcome: Outcome, stream: Stream, *, is_fresh: bool) -> _Exchange:
        exchange = _Exchange(self._clock, outcome, stream, self._loop.create_future())

        def made(upstream: Upstream) -> None:
            if exchange.done.cancelled():
                self._pool.give(upstream)
                return
            exchange.upstream = upstream
            upstream.send(data, exchange)

        idle = None if is_fresh else self._pool.take(self._address)
        if idle is not None:
            made(idle)
        else:
            tls = self.target.tls is not None
            self._pool.connect(self._address, made, exchange.on_broken, is_tls=tls, is_fresh=is_fresh)
        return exchange

    def _judge(self, exchange: _Exchange) -> None:
        """What the answer comes to."""
        outcome, stream = exchange.outcome, exchange.stream
        broken = exchange.error()
        if broken is not None:
            outcome.error = _kind(broken)
            outcome.message = str(broken)
        elif not exchange.streams:
            self._judge_body(exchange)
        elif stream.error is not None:
            outcome.error = f"in stream {stream.error.code or stream.error.type or ''}".strip()
            outcome.message = stream.error.message[:MAX_MESSAGE]
        elif stream.is_malformed:
            outcome.error, outcome.message = "malformed", "an event is not what OpenAI's API says"
        elif not stream.is_done:
            outcome.error, outcome.message = "cut off", "the stream ended without [DONE]"
        elif not outcome.first:
            outcome.error, outcome.message = "empty", "the answer had no text"
        _count(outcome, stream)

    def _judge_body(self, exchange: _Exchange) -> None:
        outcome, body = exchange.outcome, b"".join(exchange.body)
        if outcome.status < REFUSED:
            outcome.error, outcome.message = "malformed", "the answer is no stream of events"
            return
        try:
            fault = self.refusals.decode(body).error
        except (DecodeError, ValidationError):
            fault = body.decode(errors="replace")
        if fault is None or isinstance(fault, str):
            fault = Fault(fault or "")
        outcome.error = f"http {outcome.status} {fault.code or fault.type or ''}".strip()
        outcome.message = fault.message[:MAX_MESSAGE]


def _kind(error: UpstreamError | TimeoutError) -> str:
    kinds = {NotSent: "not connected", NoAnswer: "no answer", CutOff: "cut off"}
    return kinds.get(type(error), "timeout")


def _count(outcome: Outcome, stream: Stream) -> None:
    usage = stream.usage
    outcome.text = stream.text
    if usage is None:
        outcome.output_tokens = len(outcome.gaps_s) + 1 if outcome.first else 0
        return
    outcome.told_usage = True
    outcome.prompt_tokens, outcome.output_tokens = usage.prompt_tokens, usage.completion_tokens
    if usage.prompt_tokens_details is not None:
        outcome.cached_tokens = usage.prompt_tokens_details.cached_tokens or 0
