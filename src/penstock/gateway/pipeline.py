"""The life of one request, top to bottom:

    parse ─ authorize ─ read ─ reserve ─ admit ─ (wait | wake) ─ forward ─ settle ─ meter

A request that has to wait for nothing runs through here in one go, without a task. Everything that is refused is told in the
caller's own error shape, always with `x-request-id`.
"""

from __future__ import annotations

import asyncio

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.admission import Admission, admit_request
from penstock.decide.retry_after import retry_after_s
from penstock.decide.routing import has_endpoint
from penstock.gateway import asking, paths
from penstock.gateway.activator import MAX_WAITING
from penstock.gateway.call import Call
from penstock.gateway.dialects.known import DIALECTS
from penstock.gateway.errors import JSON, error_body, error_headers
from penstock.gateway.forward import Delivery
from penstock.gateway.local import answer
from penstock.gateway.state import State
from penstock.gateway.trace import TRACEPARENT, TRACESTATE
from penstock.gateway.wire.message import Request
from penstock.gateway.wire.responder import Responder
from penstock.kit.eager import in_a_task, run_eagerly
from penstock.kit.errors import Exhausted, Internal, NotFound, PlatformError, Unavailable

REQUEST_ID = b"x-request-id"
MAX_REQUEST_ID = 128


class Pipeline:
    """Answers requests; for `wire.server.Server`."""

    def __init__(self, state: State) -> None:
        """`state` is what the gateway knows."""
        self._state = state
        self._loop = asyncio.get_running_loop()

    def __call__(self, request: Request, respond: Responder) -> None:
        """Answer one request, now or later."""
        call = self._call(request, respond)
        task = run_eagerly(self._run(call), self._loop)
        if task is not None:
            respond.watch(_Waiting(task), 0.0)

    def _call(self, request: Request, respond: Responder) -> Call:
        given, parent, state = b"", b"", b""
        for name, value in request.headers:
            if name == REQUEST_ID:
                given = value
            elif name == TRACEPARENT:
                parent = value
            elif name == TRACESTATE:
                state = value
        trace = self._state.traces.begin(parent, state)
        return Call(
            request,
            respond,
            _request_id(given) or trace.id.decode(),
            self._state.clock.monotonic(),
            paths.NOWHERE,
            trace,
        )

    async def _run(self, call: Call) -> None:
        state = self._state
        try:
            call.target = self._parse(call)
            call.dialect = DIALECTS.get(call.target.protocol)
            state.access.authorize(call)
            if call.target.local is not None:
                await self._answer(call)
                return
            await asking.read(call, state.names)
            state.access.check(call)
            await self._reserve(call)
            await self._admit(call)
            Delivery(call, state, self._finish, self._refuse).start()
        except PlatformError as error:
            self._refuse(call, error)
        except asyncio.CancelledError:
            call.error = "cancelled"
            if state.is_draining:
                self._refuse(
                    call,
                    Unavailable(
                        "the gateway is stopping", code="gateway_draining", hint="send the request again"
                    ),
                )
            else:
                self._finish(call)
        except Exception:
            self._refuse(call, Internal("the gateway failed on this request"))
            raise

    def _parse(self, call: Call) -> paths.Target:
        """Who has no key, where one is asked for, does not learn what there is."""
        try:
            return paths.parse(call.request, self._state.names)
        except NotFound:
            self._state.access.caller(call.request.headers)
            raise

    async def _reserve(self, call: Call) -> None:
        quota = self._state.quota
        if quota.waits:
            await in_a_task()
            await quota.reserve_async(call)
        else:
            quota.reserve(call)

    async def _admit(self, call: Call) -> None:
        state, service = self._state, call.service
        assert service is not None
        key = (service.namespace, service.name)
        admission = self._judge(service)
        if admission.outcome == "wait":
            await in_a_task()  # others may have come first meanwhile
            admission = self._judge(service)
        if admission.outcome == "wait":
            service = await state.activator.wait(
                lambda: state.names.service("/".join(key)),
                lambda found: self._judge(found, has_place=True).outcome != "wait",
            )
            admission = self._judge(service, has_place=True)
        if admission.outcome != "run":
            kind = Exhausted if admission.outcome in ("queue_full", "gateway_full") else Unavailable
            drain_per_s = state.pace.drain_per_s(key, state.clock.monotonic())
            waiting = state.activator.waiting.get(key, 0)
            wait_s = retry_after_s(waiting, drain_per_s, call.id, unknown_s=admission.retry_after_s)
            raise kind(admission.message, code=admission.outcome, retry_after_s=wait_s)
        call.service = service

    def _judge(self, service: ServiceRoute, *, has_place: bool = False) -> Admission:
        """`has_place`: for a request that waits already, and keeps its place however full the gateway is."""
        state = self._state
        return admit_request(
            service,
            has_endpoint=has_endpoint(service),
            in_flight=0 if has_place else state.total_in_flight,
            max_in_flight=state.max_in_flight,
            waiting=0 if has_place else state.activator.waiting.get((service.namespace, service.name), 0),
            max_waiting=MAX_WAITING,
        )

    async def _answer(self, call: Call) -> None:
        status, headers, payload = await answer(call, self._state)
        if call.respond.is_gone:
            return
        call.respond.send(status, [*headers, (REQUEST_ID, call.id.encode())], payload)

    def _refuse(self, call: Call, error: PlatformError) -> None:
        respond = call.respond
        self._state.telemetry.refused.add(error.code)
        call.error = error.code
        if respond.started:
            respond.abort()
        elif not respond.is_gone:
            headers = [
                *error_headers(error),
                (REQUEST_ID, call.id.encode()),
                *self._state.quota.headers(call),
            ]
            assert headers[0] == JSON
            respond.send(error.status, headers, self._told(call, error))
        self._finish(call)

    def _told(self, call: Call, error: PlatformError) -> bytes:
        protocol = (
            paths.protocol_of(call.request.path) if call.target is paths.NOWHERE else call.target.protocol
        )
        dialect = DIALECTS.get(protocol)
        return error_body(error, protocol) if dialect is None else dialect.error_body(error, call.id)

    def _finish(self, call: Call) -> None:
        """However it ended."""
        self._state.quota.settle(call)
        self._state.meter.finished(call, self._state.clock.monotonic())


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


def _request_id(given: bytes) -> str:
    """The caller's own, if it is fit to be passed on."""
    text = given.decode("latin-1")
    return text if len(text) <= MAX_REQUEST_ID and text.isascii() and text.isprintable() else ""
