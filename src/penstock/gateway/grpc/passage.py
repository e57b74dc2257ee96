"""The life of one gRPC call, as `gateway/pipeline.py` has that of an HTTP request:

    authorize ─ read the first message ─ reserve ─ admit ─ (wait | wake) ─ route ─ pass on ─ settle ─ meter

Unary calls are streams of one message each way, so one passage serves all. Messages pass unread, but for the model's name.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from grpc import StatusCode, aio

from penstock import __version__
from penstock.contracts.exchange import ServiceRoute
from penstock.gateway.admit import admit
from penstock.gateway.call import Call
from penstock.gateway.errors import draining
from penstock.gateway.grpc import messages, metadata
from penstock.gateway.grpc.attempt import Attempt, Inbox
from penstock.gateway.grpc.engines import Engines
from penstock.gateway.paths import Target
from penstock.gateway.reading import unread
from penstock.gateway.state import State
from penstock.gateway.trace import TRACEPARENT, TRACESTATE
from penstock.gateway.wire.message import Head, Limits, Request
from penstock.gateway.wire.responder import Responder
from penstock.kit.errors import DeadlineExceeded, Exhausted, Internal, InvalidInput, NotFound, PlatformError
from penstock.kit.protobuf import text_field

Context = aio.ServicerContext[bytes, bytes]
OWN = {messages.SERVICE + "ServerLive": "v2_live", messages.SERVICE + "ServerReady": "v2_ready", messages.SERVICE + "ServerMetadata": "v2"}  # fmt: skip
"""What the gateway answers itself, and what that is called over HTTP."""


class Account(Responder):
    """What became of the answer; its bytes are gRPC's to write."""

    __slots__ = ()

    def __init__(self) -> None:
        self.status = self.sent_bytes = 0


class Room:
    """What the first messages of all calls may take together; each is held until its call is over, for it may be sent again."""

    def __init__(self, max_bytes: int) -> None:
        """Empty."""
        self._left_bytes = max_bytes

    def take(self, size_bytes: int) -> None:
        """Raises Exhausted."""
        if size_bytes > self._left_bytes:
            raise Exhausted(
                "the gateway holds as many bytes of requests as it takes",
                code="gateway_full",
                retry_after_s=1.0,
            )
        self._left_bytes -= size_bytes

    def give(self, size_bytes: int) -> None:
        """Back what was taken."""
        self._left_bytes += size_bytes


class Passage:
    """One call. `run` never raises; its end is set in the context."""

    def __init__(
        self, method: str, context: Context, state: State, engines: Engines, room: Room, limits: Limits
    ) -> None:
        headers = metadata.headers(context.invocation_metadata() or ())
        head = Head(b"POST", method.encode(), headers, keep_alive=True)
        reading = unread(head, state.names)
        trace = state.traces.begin(head.header(TRACEPARENT), head.header(TRACESTATE))
        self._method, self._context, self._state, self._engines = method, context, state, engines
        self._room, self._limits = room, limits
        self._task = asyncio.current_task()
        self._is_cut = False
        self._inbox = Inbox(context)
        self._call = Call(
            Request(head, b"", _address(context.peer())),
            Account(),
            reading.request_id or trace.id.decode(),
            state.clock.monotonic(),
            trace,
            reading,
            Target("v2", path=method),
        )

    def cut(self) -> None:
        """The gateway stops: say so and end now."""
        if self._task is not None:
            self._is_cut = True
            self._task.cancel()

    async def run(self) -> None:
        """Answer it."""
        try:
            await self._run()
        except PlatformError as error:
            self._refuse(error)
        except asyncio.CancelledError:
            if not self._is_cut:
                self._call.error = "cancelled"
                self._finish()
                raise
            self._refuse(draining())
        except Exception:
            self._refuse(Internal("the gateway failed on this request"))
            raise
        finally:
            self._inbox.close()
            self._room.give(len(self._call.request.body))

    async def _run(self) -> None:
        call, state = self._call, self._state
        own = OWN.get(self._method)
        call.key = state.access.authorize(call.request.head.headers, own).key
        if own is not None:
            await self._context.write(self._own(own))
            return
        call.request.body = await self._first()
        call.service = service = self._service(call.request.body)
        state.access.check(call.key, service)
        if state.quota.waits:
            await state.quota.reserve_async(call)
        else:
            state.quota.reserve(call)
        call.service = service = await admit(service, call.id, state)
        call.admitted = state.clock.monotonic()
        await self._pass_on(service)
        self._finish()

    def _own(self, name: str) -> bytes:
        if name == "v2":
            return text_field(1, "penstock") + text_field(2, __version__)
        return messages.flag(name == "v2_live" or (self._state.is_ready and not self._state.is_draining))

    async def _first(self) -> bytes:
        try:
            async with asyncio.timeout(self._limits.body_s):
                message = await self._inbox.next()
        except TimeoutError:
            raise DeadlineExceeded(
                f"no message came within {self._limits.body_s:g} s", code="request_timeout"
            ) from None
        if message is None:
            raise InvalidInput("the call ended without a message", code="bad_message")
        self._room.take(len(message))
        return message

    def _service(self, message: bytes) -> ServiceRoute:
        """By the metadata, or by what the message says."""
        call = self._call
        model = call.request.head.header(metadata.MODEL).decode("latin-1")
        if self._method in messages.NAMES_MODEL:
            call.model = messages.model_of(message)
            model = model or call.model
        elif not model:
            raise NotFound(
                f"there is nothing at {self._method} that the gateway knows",
                code="unknown_path",
                hint=f"name the service in the metadata {metadata.MODEL.decode()} to reach its engine",
            )
        if not model:
            raise InvalidInput(
                "the message names no model", code="missing_model", hint="set model_name to a service's name"
            )
        return self._state.names.service(model)

    async def _pass_on(self, service: ServiceRoute) -> None:
        state, call = self._state, self._call
        key = (service.namespace, service.name)
        load = state.begin(key, call.admitted)
        failed = True
        try:
            end = await Attempt(self._context, self._inbox, call, service, state, self._engines).run()
            failed = call.respond.status >= 500
            self._tell(end.code, end.details, end.metadata)
        except asyncio.CancelledError:
            failed = self._is_cut
            raise
        finally:
            call.last_byte_at = state.clock.monotonic()
            state.end(key, load, call.last_byte_at, failed=failed)

    def _refuse(self, error: PlatformError) -> None:
        call = self._call
        self._state.telemetry.refused.add(error.code)
        call.error = error.code
        code, details, told = metadata.status_of(error)
        quota = metadata.own(self._state.quota.headers(call))
        call.respond.status = error.status
        self._tell(code, details, (*told, *quota))
        self._finish()

    def _tell(self, code: StatusCode, details: str, trailing: metadata.Metadata) -> None:
        with suppress(asyncio.InvalidStateError):  # the client has gone
            self._context.set_trailing_metadata((("x-request-id", self._call.id), *trailing))
            self._context.set_code(code)
            self._context.set_details(details)

    def _finish(self) -> None:
        self._state.quota.settle(self._call)
        self._state.records.finished(self._call, self._state.clock.monotonic())


def _address(peer: str) -> str:
    """Of `ipv4:127.0.0.1:4124` or `ipv6:%5B::1%5D:4124`."""
    return peer.partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "")
