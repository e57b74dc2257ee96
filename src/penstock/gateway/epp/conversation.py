"""The conversation with Envoy about one HTTP request: shown its head and body, say where it goes; shown the answer, learn from it.

    authorize (Envoy's business) ─ head ─ body ─ admit ─ (wait | wake) ─ pick ─ answer's head ─ answer's body ─ meter

Where both sides stream (FULL_DUPLEX_STREAMED) nothing of the request goes on before its last byte was seen, since only the whole prompt says
where it goes; the answer goes on piece by piece. A request whose body is not shown, or only after its head has gone, is picked by its head.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.deadline import deadline
from penstock.gateway import asking, outgoing, paths
from penstock.gateway.admit import admit
from penstock.gateway.call import Call
from penstock.gateway.epp import messages, picking
from penstock.gateway.epp.journey import Journey
from penstock.gateway.epp.messages import Mode, Modes, Shown
from penstock.gateway.epp.picking import Manner
from penstock.gateway.errors import error_body, error_headers
from penstock.gateway.grpc.passage import Account, Room
from penstock.gateway.paths import Target
from penstock.gateway.reading import BATCH, SESSION, unread
from penstock.gateway.state import State
from penstock.gateway.trace import TRACEPARENT, TRACESTATE
from penstock.gateway.wire.message import Head, Headers, Limits, Request
from penstock.kit.errors import Internal, InvalidInput, NotFound, PlatformError, TooLarge

Receive = Callable[[], Awaitable[bytes | None]]
"""The next message of Envoy's, None after the last."""
Send = Callable[[bytes], Awaitable[None]]
HEAD_ONLY = (Mode.NONE, Mode.STREAMED, Mode.BUFFERED_PARTIAL)
"""Modes in which the head has gone on before the whole body is here."""
FORM = b"multipart/form-data"


class Conversation:
    """One stream of ext_proc. `run` raises nothing but cancellation, and what is our own fault."""

    def __init__(self, state: State, limits: Limits, room: Room, manner: Manner) -> None:
        """Nothing is known of the request yet."""
        self._state, self._limits, self._room, self._manner = state, limits, room, manner
        self._modes = Modes()
        self._head = Head(b"", b"", [], keep_alive=True)
        self._metadata: picking.Metadata = {}
        self._body = bytearray()
        self._taken_bytes = 0
        self._call: Call | None = None
        self._journey: Journey | None = None

    async def run(self, receive: Receive, send: Send) -> None:
        """Until Envoy, or a refusal, ends it."""
        try:
            while (message := await receive()) is not None:
                for answer in await self._answer(messages.read(message)):
                    await send(answer)
        except PlatformError as error:
            await send(self._refused(error))
        except Exception:
            self._refused(Internal("the endpoint picker failed on this request"))
            raise
        finally:
            self._close()

    async def _answer(self, shown: Shown) -> Iterable[bytes]:
        if shown.modes is not None:
            self._modes = shown.modes
        match shown.kind:
            case "request_headers":
                return await self._request_head(shown)
            case "request_body":
                return await self._request_body(shown)
            case "request_trailers":
                return [*await self._whole(ends=False), messages.trailers_answer("request")]
            case "response_headers":
                return self._response_head(shown)
            case "response_body":
                return self._response_body(shown)
            case "response_trailers":
                return [*self._rest(), messages.trailers_answer("response")]
        return ()

    # the request

    async def _request_head(self, shown: Shown) -> Iterable[bytes]:
        self._head, self._metadata = _head(shown.headers), shown.metadata
        mode = self._modes.request
        if shown.ends or mode in HEAD_ONLY:
            set_headers, metadata, _ = await self._pick(b"")
            return [messages.headers_answer("request", set_headers, metadata)]
        if mode == Mode.BUFFERED:
            return [messages.headers_answer("request")]
        return ()

    async def _request_body(self, shown: Shown) -> Iterable[bytes]:
        mode = self._modes.request
        if mode in HEAD_ONLY:
            return [messages.body_answer("request")]
        size = len(shown.body)
        if len(self._body) + size > self._limits.max_body_bytes:
            raise TooLarge(
                f"the body is longer than {self._limits.max_body_bytes} bytes", code="body_too_large"
            )
        self._room.take(size)
        self._taken_bytes += size
        self._body += shown.body
        if mode == Mode.BUFFERED:
            return await self._buffered()
        return await self._whole(ends=True) if shown.ends else ()

    async def _buffered(self) -> Iterable[bytes]:
        given = self._given()
        set_headers, metadata, content = await self._pick(given)
        if content is given:
            return [messages.body_answer("request", set_headers, None, metadata)]
        set_headers.append((b"content-length", b"%d" % len(content)))
        return [messages.body_answer("request", set_headers, content, metadata)]

    async def _whole(self, *, ends: bool) -> Iterable[bytes]:
        """Head and body go on together. Where trailers follow (`ends` is false) they are what ends the body."""
        if self._journey is not None or self._modes.request != Mode.FULL_DUPLEX_STREAMED:
            return ()
        set_headers, metadata, content = await self._pick(self._given())
        head = messages.headers_answer("request", set_headers, metadata)
        return [head, *messages.streamed("request", content, ends=ends)]

    def _given(self) -> bytes:
        """The body, once."""
        given, self._body = bytes(self._body), bytearray()
        return given

    async def _pick(self, content: bytes) -> tuple[Headers, Mapping[str, Mapping[str, str]], bytes]:
        """Headers to set, metadata, and the body as the engine is to get it. Raises PlatformError for what is refused."""
        state = self._state
        call = self._call = self._begun(content)
        service = await self._service(call)
        if state.prompts.waits(call, service):
            await state.prompts.prepare(call, service)
        own = deadline(self._head.headers, service.timeout_s)
        within_s = own.timeout_s if own.is_callers else None
        call.service = service = await admit(service, call.id, state, within_s=within_s, call=call)
        now = call.admitted = state.clock.monotonic()
        if self._modes.response != Mode.FULL_DUPLEX_STREAMED:
            call.wants_usage = (
                True  # an event of usage that the caller did not ask for could not be taken out again
            )
        told = outgoing.content(call, service) if content else content
        way = state.ways.of(call, service)
        subset = picking.subset_of(self._head, self._metadata)
        choose = partial(state.ways.choose, call)
        routes = picking.pick(service, choose, subset, self._manner.fallbacks, now)
        self._journey = Journey(state, call, service, way, routes, told)
        set_headers, metadata = picking.told(routes)
        path = outgoing.engine_path(call.target.path, service)
        if path != self._head.path:
            question, query = self._head.target.partition(b"?")[1:]
            set_headers.append((b":path", path.encode("latin-1") + question + query))
        return set_headers, metadata, content if told == content else told

    def _begun(self, content: bytes) -> Call:
        state, head = self._state, self._head
        reading = unread(head, state.names)
        reading.is_form = head.header(b"content-type")[: len(FORM)].lower() == FORM
        reading.session = head.header(SESSION).decode("latin-1")
        reading.is_batch = head.header(BATCH).lower() == b"true"
        trace = state.traces.begin(head.header(TRACEPARENT), head.header(TRACESTATE))
        return Call(
            Request(head, content, ""),
            Account(),
            reading.request_id or trace.id.decode(),
            state.clock.monotonic(),
            trace,
            reading,
            Target(paths.protocol_of(head.path), path=head.path),
        )

    async def _service(self, call: Call) -> ServiceRoute:
        """The only one, or the one that path, Host or model name."""
        call.target = self._target()
        if call.target.local is not None:
            raise InvalidInput(
                f"{self._head.method.decode()} {self._head.path} names no model",
                code="missing_model",
                hint="ask Penstock's own gateway, which knows all models, or write /serving/NAMESPACE/NAME in front of the path",
            )
        asked = await asking.read_large(call) if asking.is_large(call) else None
        return asking.read(call, self._state.names, asked)

    def _target(self) -> Target:
        head, names = self._head, self._state.names
        only = self._manner.only
        if only is None:
            return paths.parse(head, names)
        try:
            found = paths.parse(head, names)
        except NotFound:  # whatever else engines offer
            found = Target(paths.protocol_of(head.path))
        service = names.service("/".join(only))
        return Target(found.protocol, service=service, path=head.path, tells_usage=found.tells_usage)

    # the answer

    def _response_head(self, shown: Shown) -> Iterable[bytes]:
        call, journey = self._call, self._journey
        if call is None or journey is None:
            return [messages.headers_answer("response")]
        status = next((value for name, value in shown.headers if name == b":status"), b"")
        plain = [(name, value) for name, value in shown.headers if not name.startswith(b":")]
        journey.answered(int(status) if status.isdigit() else 0, plain, picking.served_of(shown.metadata))
        own = [*outgoing.identity(call), (b"x-penstock-endpoint", call.endpoint.encode())]
        return [messages.headers_answer("response", own)]

    def _response_body(self, shown: Shown) -> Iterable[bytes]:
        journey = self._journey
        kept = journey.passed(shown.body) if journey is not None else shown.body
        if shown.ends and journey is not None:
            kept += journey.finished()
        if self._modes.response == Mode.FULL_DUPLEX_STREAMED:
            return messages.streamed("response", kept, ends=shown.ends)
        return [messages.body_answer("response")]

    def _rest(self) -> Iterable[bytes]:
        """What was held back of an answer that ends with trailers."""
        held = self._journey.finished() if self._journey is not None else b""
        return messages.streamed("response", held, ends=False) if held else ()

    # ends

    def _refused(self, error: PlatformError) -> bytes:
        call = self._call = self._call or self._begun(b"")
        self._state.telemetry.refused.add(error.code)
        call.error, call.respond.status = error.code, error.status
        set_headers = [*error_headers(error), *outgoing.identity(call)]
        return messages.immediate(
            error.status, set_headers, error_body(error, call.target.protocol), f"penstock_{error.code}"
        )

    def _close(self) -> None:
        self._room.give(self._taken_bytes)
        if self._journey is not None:
            self._journey.close()
        if self._call is not None:
            if self._call.turn is not None:
                self._call.turn.ended()
            self._state.records.finished(self._call, self._state.clock.monotonic())


def _head(headers: Headers) -> Head:
    """As HTTP/1.1 has it."""
    pseudo = {name: value for name, value in headers if name.startswith(b":")}
    plain = [(name, value) for name, value in headers if not name.startswith(b":")]
    if b":authority" in pseudo:
        plain.append((b"host", pseudo[b":authority"]))
    return Head(pseudo.get(b":method", b""), pseudo.get(b":path", b"/"), plain, keep_alive=True)
