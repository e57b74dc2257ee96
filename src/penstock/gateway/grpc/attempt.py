"""A call's way to an engine and back: attempts at one endpoint after the other, until an answer has begun."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

from grpc import StatusCode, aio

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.retry import Failure, is_free, retry
from penstock.decide.routing import Route
from penstock.gateway.call import Call
from penstock.gateway.errors import late
from penstock.gateway.grpc import messages, metadata
from penstock.gateway.grpc.engines import Engines
from penstock.gateway.state import State
from penstock.kit.errors import DeadlineExceeded, NotFound, Unavailable

Context = aio.ServicerContext[bytes, bytes]
Upstream = aio.StreamStreamCall[bytes, bytes]
AnyUpstream = Upstream | aio.UnaryUnaryCall[bytes, bytes]
REPEATABLE = messages.NAMES_MODEL - {messages.SERVICE + "ModelStreamInfer"}
"""A call that only computes from its one message."""


class End(NamedTuple):
    """The engine's own word on how it ended, for the caller."""

    code: StatusCode
    details: str
    metadata: metadata.Metadata


UNWRITTEN = "Internal error from Core"
"""What grpcio says of a call whose connection ended while it was writing."""
NO_END = End(StatusCode.UNAVAILABLE, "", ())
"""Of an attempt that never reached its engine."""


class Inbox:
    """The client's messages. One that nobody has taken waits here, also while an attempt gives way to the next."""

    def __init__(self, context: Context) -> None:
        """Nothing is read yet."""
        self._context = context
        self._reading: asyncio.Task[bytes | None] | None = None
        self.taken = 0

    async def next(self) -> bytes | None:
        """The next message, None after the last."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        await asyncio.wait((self._reading,))
        message = self._reading.result()
        if message is not None:
            self._reading = None
            self.taken += 1
        return message

    async def _read(self) -> bytes | None:
        message = await self._context.read()
        return message if isinstance(message, bytes) else None

    def close(self) -> None:
        """Nobody will ask again."""
        if self._reading is not None:
            self._reading.cancel()


class Attempt:
    """All attempts of one call."""

    def __init__(
        self,
        context: Context,
        inbox: Inbox,
        call: Call,
        service: ServiceRoute,
        state: State,
        engines: Engines,
    ) -> None:
        self._context, self._inbox, self._call = context, inbox, call
        self._service, self._state, self._engines = service, state, engines
        left_s = context.time_remaining()
        self._timeout_s = service.timeout_s if left_s is None else min(service.timeout_s, left_s)
        self._is_callers = self._timeout_s < service.timeout_s
        self._until = state.clock.monotonic() + self._timeout_s
        self._first = self._named(call.request.body)

    async def run(self) -> End:
        """How the engine ended it. Raises Unavailable, DeadlineExceeded, and NotFound where no gRPC is spoken."""
        tried: frozenset[str] = frozenset()
        while True:
            chosen = self._choose(tried)
            if chosen is None:
                raise self._unavailable("its last endpoint is gone", "no endpoint is ready")
            failure, end = await self._attempt(chosen)
            if failure is not None:
                tried |= {chosen.endpoint.name}
                reason = self._may_retry(failure, tried)
                if not reason:
                    continue
                if failure != "status_503":
                    raise self._unavailable(failure.replace("_", " "), reason)
            return end

    def _choose(self, tried: frozenset[str]) -> Route | None:
        state = self._state
        self._service = state.names.present(self._service)
        return state.ways.choose(self._call, self._service, tried, state.clock.monotonic())

    async def _attempt(self, chosen: Route) -> tuple[Failure | None, End]:
        state, call, endpoint = self._state, self._call, chosen.endpoint
        if not endpoint.grpc_port:
            raise NotFound(
                f"{self._service.namespace}/{self._service.name} does not speak gRPC",
                code="no_grpc",
                hint="name a port of its container grpc or h2c",
            )
        call.attempts += 1
        call.endpoint, call.revision = endpoint.name, chosen.revision
        state.endpoints.begin(endpoint.name)
        now, request_bytes = state.clock.monotonic(), len(self._first)
        load = state.demand.of((self._service.namespace, self._service.name))
        share = load.revision(chosen.revision, now)
        estimate = share.begin(now, request_bytes)
        failed = True
        try:
            channel = await self._engines.connected(endpoint, self._left_s())
            if channel is None:
                return "not_sent", NO_END
            exchange = self._ask if call.target.path in REPEATABLE else self._converse
            outcome = await exchange(channel)
            failed = outcome[0] is not None or call.respond.status >= 500
            if call.first_byte_at and not failed:
                share.first_byte(call.first_byte_at - call.started)
            return outcome
        except asyncio.CancelledError:
            failed = False
            raise
        finally:
            state.endpoints.end(endpoint.name)
            share.end(call, state.clock.monotonic(), estimate, request_bytes, failed)

    async def _ask(self, channel: aio.Channel) -> tuple[Failure | None, End]:
        """One message each way, for half of what a conversation costs."""
        method: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(self._call.target.path)
        upstream = method(self._first, metadata=self._told(), timeout=self._left_s())
        try:
            with suppress(aio.AioRpcError):  # its code is read below
                await self._answer(upstream, await upstream)
            return await self._ended(upstream, channel)
        finally:
            upstream.cancel()

    async def _converse(self, channel: aio.Channel) -> tuple[Failure | None, End]:
        """Any number of messages each way."""
        upstream: Upstream = channel.stream_stream(self._call.target.path)(
            metadata=self._told(), timeout=self._left_s()
        )
        upward = asyncio.create_task(self._upward(upstream))
        try:
            with suppress(aio.AioRpcError):  # its code is read below
                while isinstance(message := await upstream.read(), bytes):
                    await self._answer(upstream, message)
            return await self._ended(upstream, channel)
        finally:
            upward.cancel()
            upstream.cancel()
            await asyncio.gather(upward, return_exceptions=True)

    async def _upward(self, upstream: Upstream) -> None:
        """The client's messages, until its last."""
        with suppress(aio.AioRpcError, asyncio.InvalidStateError):  # `_ended` says how
            await upstream.write(self._first)
            while (message := await self._inbox.next()) is not None:
                await upstream.write(self._named(message))
            await upstream.done_writing()

    async def _answer(self, upstream: AnyUpstream, message: bytes) -> None:
        """One message of the engine's."""
        call = self._call
        if not call.first_byte_at:
            await self._begin(await upstream.initial_metadata())
        call.chunks += 1
        call.respond.sent_bytes += len(message)
        await self._context.write(message)

    async def _ended(self, upstream: AnyUpstream, channel: aio.Channel) -> tuple[Failure | None, End]:
        """The engine's last word, and whether that is a failure that another endpoint may make good."""
        state, call = self._state, self._call
        code, details = await upstream.code(), await upstream.details() or ""
        is_lost = self._engines.is_broken(channel)
        if code is StatusCode.INTERNAL and details == UNWRITTEN:
            code, details, is_lost = StatusCode.UNAVAILABLE, "the engine closed the connection", True
        if code is StatusCode.DEADLINE_EXCEEDED and self._left_s() <= 0.0:
            raise self._late()
        trailing = metadata.onward(metadata.headers(await upstream.trailing_metadata()))
        end = End(code, details, trailing)
        call.respond.status = metadata.http_status(code)
        if code is not StatusCode.UNAVAILABLE:
            state.endpoints.answered(call.endpoint)
        elif call.first_byte_at:
            state.endpoints.failed(call.endpoint, "cut_off")
            call.error = "upstream_cut_off"
        else:
            return "no_answer" if is_lost else "status_503", end
        return None, end

    def _late(self) -> DeadlineExceeded:
        call = self._call
        if not call.first_byte_at and not self._is_callers:
            self._state.endpoints.failed(call.endpoint, "late")
        return late(self._service, self._timeout_s)

    async def _begin(self, given: aio.Metadata) -> None:
        """The answer's head."""
        state, call = self._state, self._call
        call.first_byte_at = state.clock.monotonic()
        call.respond.status = 200
        own = (("x-request-id", call.id), ("x-penstock-endpoint", call.endpoint))
        quota = metadata.own(state.quota.headers(call))
        await self._context.send_initial_metadata((*metadata.onward(metadata.headers(given)), *own, *quota))

    def _may_retry(self, failure: Failure, tried: frozenset[str]) -> str:
        """Why not; "" if another attempt may be made."""
        state, call = self._state, self._call
        key = (self._service.namespace, self._service.name)
        decided = retry(
            failure,
            call.attempts,
            others=self._choose(tried) is not None,
            repeatable=call.target.path in REPEATABLE and self._inbox.taken == 1,
            budget=state.pace.budget(key, state.clock.monotonic()),
            remaining_s=self._left_s(),
        )
        if decided.set_aside:
            state.endpoints.failed(call.endpoint, failure)
        if decided.action == "give_up":
            state.telemetry.retries.add(decided.outcome)
            return decided.reason
        if not is_free(failure):
            state.pace.retried(key)
        state.telemetry.retries.add(failure)
        return ""

    def _told(self) -> metadata.Metadata:
        """What the engine is told beside the messages."""
        call = self._call
        own = [
            *call.trace.headers,
            (b"x-request-id", call.id.encode()),
            (b"x-forwarded-for", call.request.peer.encode()),
        ]
        return (*metadata.onward(call.request.head.headers), *metadata.own(own))

    def _named(self, message: bytes) -> bytes:
        """Under the name that the engine itself goes by."""
        call, name = self._call, self._service.engine_model
        if call.target.path not in messages.NAMES_MODEL or messages.model_of(message) == name:
            return message
        return messages.with_model(message, name)

    def _left_s(self) -> float:
        return max(0.0, self._until - self._state.clock.monotonic())

    def _unavailable(self, message: str, reason: str) -> Unavailable:
        return self._state.unanswered(self._service, self._call.id, f"{message} ({reason})")
