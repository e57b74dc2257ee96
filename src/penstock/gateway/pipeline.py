"""The life of one request, top to bottom:

    parse ─ authorize ─ read ─ reserve ─ admit ─ (wait | wake) ─ forward ─ settle ─ meter

A request that has to wait for nothing runs through here in one go, without a task. Everything that is refused is told in the
caller's own error shape, always with `x-request-id`.
"""

from __future__ import annotations

import asyncio

from penstock.gateway import asking, body
from penstock.gateway.admit import admit
from penstock.gateway.call import Call
from penstock.gateway.errors import draining, error_body, error_headers
from penstock.gateway.forward import Delivery
from penstock.gateway.local import answer
from penstock.gateway.outgoing import identity
from penstock.gateway.reading import Reading, read, unread
from penstock.gateway.state import State
from penstock.gateway.wire.message import Request
from penstock.gateway.wire.responder import Responder
from penstock.kit.eager import in_a_task, run_eagerly
from penstock.kit.errors import Internal, PlatformError


class Pipeline:
    """Answers requests; for `wire.server.Server`."""

    def __init__(self, state: State) -> None:
        """`state` is what the gateway knows."""
        self._state = state
        self._loop = asyncio.get_running_loop()

    def __call__(self, request: Request, respond: Responder) -> None:
        """Answer one request, now or later."""
        try:
            reading = self._read(request)
        except PlatformError as error:
            self._refuse(self._call(request, respond, unread(request.head, self._state.names)), error)
            return
        task = run_eagerly(self._run(self._call(request, respond, reading)), self._loop)
        if task is not None:
            respond.watch(_Waiting(task), 0.0)

    def _read(self, request: Request) -> Reading:
        state, head = self._state, request.head
        reading = head.memo
        if (
            not isinstance(reading, Reading)
            or reading.names is not state.names
            or (reading.expires_at and reading.expires_at <= state.clock.now())
        ):
            reading = head.memo = read(head, state.names, state.access)
        return reading

    def _call(self, request: Request, respond: Responder, reading: Reading) -> Call:
        state = self._state
        trace = state.traces.begin(reading.traceparent, reading.tracestate)
        call = Call(
            request,
            respond,
            reading.request_id or trace.id.decode(),
            state.clock.monotonic(),
            trace,
            reading,
            reading.target,
        )
        call.key, call.dialect = reading.key, reading.dialect
        return call

    async def _run(self, call: Call) -> None:
        state = self._state
        try:
            if call.target.local is not None:
                await self._answer(call)
                return
            if asking.is_large(call):
                await in_a_task()
                service = asking.read(call, state.names, await body.read_large(call.request.body))
            else:
                service = asking.read(call, state.names)
            state.access.check(call.key, service)
            if state.quota.waits:
                await in_a_task()
                await state.quota.reserve_async(call)
            else:
                state.quota.reserve(call)
            call.service = await admit(service, call.id, state)
            Delivery(call, state, self._finish, self._refuse).start()
        except PlatformError as error:
            self._refuse(call, error)
        except asyncio.CancelledError:
            if state.is_draining:
                self._refuse(call, draining())
            else:
                call.error = "cancelled"
                self._finish(call)
        except Exception:
            self._refuse(call, Internal("the gateway failed on this request"))
            raise

    async def _answer(self, call: Call) -> None:
        status, headers, payload = await answer(call, self._state)
        if not call.respond.is_gone:
            call.respond.send(status, headers + identity(call), payload)

    def _refuse(self, call: Call, error: PlatformError) -> None:
        respond, dialect = call.respond, call.dialect
        self._state.telemetry.refused.add(error.code)
        call.error = error.code
        if respond.started:
            respond.abort()
        elif not respond.is_gone:
            told = (
                error_body(error, call.target.protocol)
                if dialect is None
                else dialect.error_body(error, call.id)
            )
            respond.send(
                error.status, error_headers(error) + identity(call) + self._state.quota.headers(call), told
            )
        self._finish(call)

    def _finish(self, call: Call) -> None:
        """However it ended."""
        self._state.quota.settle(call)
        self._state.records.finished(call, self._state.clock.monotonic())


class _Waiting:
    """Watches over a request that waits before it is forwarded."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def on_gone(self) -> None:
        self._task.cancel()

    def on_late(self) -> None:
        """Waits have deadlines of their own."""

    def on_cut(self) -> None:
        self._task.cancel()

    def on_pause(self, paused: bool) -> None:
        """Nothing is being written."""
