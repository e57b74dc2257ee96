"""The life of one request, top to bottom:

    parse ─ authorize ─ read ─ reserve ─ admit ─ (wait | wake) ─ forward ─ settle ─ meter

A request that has to wait for nothing runs through here in one go, without a task. Everything that is refused is told in the
caller's own error shape, always with `x-request-id`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.admission import runs_at_once
from penstock.decide.deadline import deadline
from penstock.gateway import asking, body
from penstock.gateway.admit import admit, turn_at_once
from penstock.gateway.call import Call
from penstock.gateway.errors import draining, error_body, error_headers
from penstock.gateway.forward import Delivery
from penstock.gateway.local import answer
from penstock.gateway.outgoing import identity
from penstock.gateway.reading import Reading, read, unread
from penstock.gateway.state import State
from penstock.gateway.wire.message import Head, Request
from penstock.gateway.wire.responder import Responder
from penstock.kit.eager import in_a_task, run_eagerly
from penstock.kit.errors import Internal, PlatformError

FAILED = "the gateway failed on this request"


class Pipeline:
    """Answers requests; for `wire.server.Server`."""

    def __init__(self, state: State) -> None:
        """`state` is what the gateway knows."""
        self._state = state
        self._loop = asyncio.get_running_loop()

    def __call__(self, request: Request, respond: Responder) -> None:
        """Answer one request, now or later."""
        state = self._state
        try:
            reading = self._read(request.head)
        except PlatformError as error:
            self._refuse(self._call(request, respond, unread(request.head, state.names)), error)
            return
        call = self._call(request, respond, reading)
        if reading.target.local is not None:
            self._later(call, self._answer(call))
        elif state.quota.waits or (len(request.body) > body.LARGE_BYTES and asking.is_large(call)):
            self._later(call, self._run(call))
        else:
            try:
                service = asking.read(call, state.names)
                if service is not reading.cleared:
                    state.access.check(call.key, service)
                    reading.cleared, reading.buckets = service, state.quota.buckets_of(call)
                if reading.buckets:
                    state.quota.take(call, reading.buckets)
                goes = runs_at_once(service, state.total_in_flight, state.max_in_flight)
                if goes and service.routing is not None:
                    goes = not state.prompts.waits(call, service) and turn_at_once(
                        call, service, state, call.started
                    )
                if goes:
                    Delivery(call, state, self._finish, self._refuse).start()
                else:
                    self._later(call, self._wait(call, service))
            except PlatformError as error:
                self._refuse(call, error)
            except Exception:
                self._refuse(call, Internal(FAILED))
                raise

    def _read(self, head: Head) -> Reading:
        state, reading = self._state, head.memo
        if (
            type(reading) is not Reading
            or reading.names is not state.names
            or (reading.expires_at and reading.expires_at <= state.clock.now())
        ):
            reading = head.memo = read(head, state.names, state.access)
        return reading

    def _call(self, request: Request, respond: Responder, reading: Reading) -> Call:
        state = self._state
        trace = state.traces.begin(reading.traceparent, reading.tracestate)
        return Call(
            request,
            respond,
            reading.request_id or trace.id.decode(),
            state.clock.monotonic(),
            trace,
            reading,
            reading.target,
            key=reading.key,
            dialect=reading.dialect,
        )

    async def _run(self, call: Call) -> None:
        """As above, with waits: for a large body to be read, for buckets that are elsewhere. The table may be another meanwhile."""
        state = self._state
        await in_a_task()
        asked = await asking.read_large(call) if asking.is_large(call) else None
        service = asking.read(call, state.names, asked)
        state.access.check(call.key, service)
        if state.quota.waits:
            await state.quota.reserve_async(call)
        else:
            state.quota.reserve(call)
        await self._wait(call, service)

    async def _wait(self, call: Call, service: ServiceRoute) -> None:
        if self._state.prompts.waits(call, service):
            await in_a_task()
            await self._state.prompts.prepare(call, service)
            service = self._state.names.present(service)  # the table may be another meanwhile
        within_s = None
        if call.reading.has_deadline:
            due = deadline(call.request.head.headers, service.timeout_s)
            within_s = due.timeout_s if due.is_callers else None
        call.service = await admit(service, call.id, self._state, within_s=within_s, call=call)
        call.admitted = self._state.clock.monotonic()
        Delivery(call, self._state, self._finish, self._refuse).start()

    def _later(self, call: Call, steps: Coroutine[Any, None, None]) -> None:
        """Go as far as possible now, and the rest of the way in a task."""
        task = run_eagerly(self._guarded(call, steps), self._loop)
        if task is not None:
            call.respond.watch(_Waiting(task), 0.0)

    async def _guarded(self, call: Call, steps: Coroutine[Any, None, None]) -> None:
        try:
            await steps
        except PlatformError as error:
            self._refuse(call, error)
        except asyncio.CancelledError:
            if self._state.is_draining:
                self._refuse(call, draining())
            else:
                call.error = "cancelled"
                self._finish(call)
        except Exception:
            self._refuse(call, Internal(FAILED))
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
        if call.turn is not None:
            call.turn.ended()
        if call.reservation is not None:
            self._state.quota.settle(call)
        self._state.records.finished(call, self._state.clock.monotonic())
        call.way = None  # they know each other: nobody has to look for that later


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
