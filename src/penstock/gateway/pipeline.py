"""The life of one request, top to bottom:

    parse ─ admit ─ (wait | wake) ─ route ─ forward ─ meter

Everything that is refused is told in the caller's own error shape, always with `x-request-id`.
"""

from __future__ import annotations

import secrets

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.admission import Admission, admit_request
from penstock.decide.routing import has_endpoint
from penstock.gateway import body, paths
from penstock.gateway.activator import MAX_WAITING
from penstock.gateway.call import Call
from penstock.gateway.errors import JSON, Protocol, error_body, error_headers
from penstock.gateway.forward import Forwarder
from penstock.gateway.local import answer
from penstock.gateway.paths import Target
from penstock.gateway.state import State
from penstock.gateway.wire.message import Request
from penstock.gateway.wire.server import Responder
from penstock.kit.errors import Exhausted, Internal, InvalidInput, PlatformError, Unavailable

REQUEST_ID = b"x-request-id"
MAX_REQUEST_ID = 128


class Pipeline:
    """Answers requests."""

    def __init__(self, state: State) -> None:
        """`state` is what the gateway knows."""
        self._state = state
        self._forward = Forwarder(state)

    async def __call__(self, request: Request, respond: Responder) -> None:
        """Answer one request; for `wire.server.Server`."""
        started = self._state.clock.monotonic()
        request_id = _request_id(request)
        protocol = paths.protocol_of(request.path)
        try:
            target = self._parse(request)
            protocol = target.protocol
            call = Call(request, respond, request_id, started, target)
            if target.local is not None:
                self._send_local(call)
                return
            service = self._service_of(call)
            service = await self._admit(service)
            await self._forward.run(call, service)
        except PlatformError as error:
            self._refuse(respond, error, protocol, request_id)
        except Exception as fault:
            self._refuse(respond, Internal("the gateway failed on this request"), protocol, request_id)
            raise fault

    def _parse(self, request: Request) -> Target:
        host = request.header(b"host").decode("latin-1")
        return paths.parse(request.method, request.path, host, self._state.names)

    def _service_of(self, call: Call) -> ServiceRoute:
        """The path or Host names it, or the body does."""
        if call.target.service is not None:
            return call.target.service
        if call.request.method not in (b"POST", b"PUT", b"PATCH"):
            raise InvalidInput(
                f"{call.request.method.decode()} {call.request.path} names no model",
                code="missing_model",
                hint="write /serving/NAMESPACE/NAME in front of the path",
            )
        call.model = body.read(call.request.body).model
        return self._state.names.service(call.model)

    async def _admit(self, service: ServiceRoute) -> ServiceRoute:
        state, key = self._state, (service.namespace, service.name)
        admission = self._judge(
            service, in_flight=state.total_in_flight, waiting=state.activator.waiting.get(key, 0)
        )
        if admission.outcome == "wait":
            service = await state.activator.wait(
                lambda: state.names.service("/".join(key)),
                lambda found: self._judge(found).outcome != "wait",
            )
            admission = self._judge(service)
        if admission.outcome == "run":
            return service
        kind = Exhausted if admission.outcome in ("queue_full", "gateway_full") else Unavailable
        raise kind(admission.message, code=admission.outcome, retry_after_s=admission.retry_after_s)

    def _judge(self, service: ServiceRoute, *, in_flight: int = 0, waiting: int = 0) -> Admission:
        """Without counts: for a request that has its place already, which it keeps however full the gateway is."""
        return admit_request(
            service,
            has_endpoint=has_endpoint(service),
            in_flight=in_flight,
            max_in_flight=self._state.max_in_flight,
            waiting=waiting,
            max_waiting=MAX_WAITING,
        )

    def _send_local(self, call: Call) -> None:
        status, content_type, payload = answer(call.target, self._state)
        headers = [(b"content-type", content_type), (REQUEST_ID, call.id.encode())]
        call.respond.send(status, headers, payload)

    def _refuse(self, respond: Responder, error: PlatformError, protocol: Protocol, request_id: str) -> None:
        self._state.telemetry.refused.add(error.code)
        if respond.started:
            respond.abort()
            return
        headers = [*error_headers(error), (REQUEST_ID, request_id.encode())]
        assert headers[0] == JSON
        respond.send(error.status, headers, error_body(error, protocol))


def _request_id(request: Request) -> str:
    """The caller's own, if it is fit to be passed on."""
    given = request.header(REQUEST_ID).decode("latin-1")
    if given and len(given) <= MAX_REQUEST_ID and given.isascii() and given.isprintable():
        return given
    return secrets.token_hex(16)
