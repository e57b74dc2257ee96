"""Route a request to an endpoint, pass the answer on as it comes, and try elsewhere while that is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.contracts.exchange import Endpoint, ServiceRoute
from penstock.decide.retry import Failure, retry
from penstock.decide.routing import route
from penstock.gateway import body
from penstock.gateway.call import Call
from penstock.gateway.errors import error_event
from penstock.gateway.paths import Target
from penstock.gateway.state import State
from penstock.gateway.wire.client import CutOff, NoAnswer, NotSent, Upstream
from penstock.gateway.wire.message import Headers, end_to_end
from penstock.gateway.wire.server import Responder
from penstock.kit.errors import DeadlineExceeded, PlatformError, Unavailable

RETRY_AFTER_S = 1.0
_REPLACED = (b"host", b"content-length", b"x-request-id", b"expect", b"forwarded", b"x-forwarded-for",
             b"x-forwarded-host", b"x-forwarded-proto")  # fmt: skip


class Forwarder:
    """The last stages of the pipeline."""

    def __init__(self, state: State) -> None:
        """Counts and pools are the gateway's."""
        self._state = state

    async def run(self, call: Call, service: ServiceRoute) -> None:
        """Answer. Raises PlatformError while nothing was passed on; later the answer itself tells."""
        key, respond = (service.namespace, service.name), call.respond
        self._state.begin(key)
        failed = True
        try:
            async with asyncio.timeout(service.timeout_s):
                await self._attempts(call, service)
            failed = respond.status >= 500
        except TimeoutError:
            late = DeadlineExceeded(
                f"{service.namespace}/{service.name} did not answer within {service.timeout_s:g} s",
                code="upstream_timeout",
            )
            if not respond.started:
                raise late from None
            _end_broken(respond, late)
        except asyncio.CancelledError:
            self._state.telemetry.cancelled.add(*key)
            raise
        finally:
            self._state.end(key, failed=failed)
            self._meter(key, call)

    async def _attempts(self, call: Call, service: ServiceRoute) -> None:
        state, tried, fresh, attempt = self._state, set[str](), False, 0
        chosen = route(service, call.id, state.endpoints.in_flight, state.endpoints.set_aside())
        while chosen is not None:
            attempt += 1
            failure, message = await self._attempt(call, service, chosen.endpoint, fresh)
            if failure is None:
                return
            service = state.names.service(f"{service.namespace}/{service.name}")
            tried.add(chosen.endpoint.name)
            other = route(
                service, call.id, state.endpoints.in_flight, state.endpoints.set_aside(), exclude=tried
            )
            answer = retry(failure, attempt, others=other is not None)
            if answer.set_aside:
                state.endpoints.failed(chosen.endpoint.name)
            if answer.action == "give_up":
                raise _unavailable(service, message, answer.reason)
            state.telemetry.retries.add(failure)
            if answer.action == "again":
                fresh = True
            else:
                chosen, fresh = other, False
        raise _unavailable(service, "its last endpoint is gone", "no endpoint is ready")

    async def _attempt(
        self, call: Call, service: ServiceRoute, endpoint: Endpoint, fresh: bool
    ) -> tuple[Failure | None, str]:
        """One try at one endpoint: None when an answer was passed on, whole or cut."""
        state = self._state
        state.endpoints.begin(endpoint.name)
        upstream: Upstream | None = None
        try:
            upstream = await state.pool.take((endpoint.address, endpoint.port), fresh=fresh)
            await upstream.exchange(_message(call, service, endpoint), is_head=call.request.method == b"HEAD")
            if upstream.status == 503 and not upstream.reusable:
                return "status_503", f"{endpoint.name} answered 503 and closed"
            state.endpoints.answered(endpoint.name)
            key = (service.namespace, service.name)
            state.telemetry.first_byte.observe(state.clock.monotonic() - call.started, *key)
            await self._pass_on(upstream, call, endpoint)
        except NotSent as error:
            return "not_sent", str(error)
        except NoAnswer as error:
            return ("no_answer_reused" if error.reused and not fresh else "no_answer"), str(error)
        finally:
            state.endpoints.end(endpoint.name)
            if upstream is not None:
                state.pool.give(upstream)
        return None, ""

    async def _pass_on(self, upstream: Upstream, call: Call, endpoint: Endpoint) -> None:
        respond = call.respond
        headers = [item for item in end_to_end(upstream.headers) if item[0] != b"x-request-id"]
        headers.append((b"x-request-id", call.id.encode()))
        headers.append((b"x-penstock-endpoint", endpoint.name.encode()))
        tail = _Tail(respond.write)
        respond.start(upstream.status, headers)
        respond.on_pause(upstream.pause)
        is_stream = any(n == b"content-type" and v.startswith(b"text/event-stream") for n, v in headers)
        try:
            await upstream.copy_to(tail)
        except asyncio.CancelledError:
            if self._state.is_draining:
                _end_broken(respond, _draining(), is_stream=is_stream, at_boundary=tail.at_boundary)
            raise
        except CutOff as error:
            self._state.endpoints.failed(endpoint.name)
            cut = Unavailable(
                f"{endpoint.name} ended in the middle of the answer: {error}",
                code="upstream_cut_off",
                hint="send the request again",
            )
            _end_broken(respond, cut, is_stream=is_stream, at_boundary=tail.at_boundary)
            return
        respond.end()

    def _meter(self, key: tuple[str, str], call: Call) -> None:
        telemetry, respond = self._state.telemetry, call.respond
        telemetry.requests.add(*key, str(respond.status or "none"))
        telemetry.bytes.add(*key, by=respond.sent_bytes)
        telemetry.duration.observe(self._state.clock.monotonic() - call.started, *key)


class _Tail:
    """Passes pieces on and remembers the last one, since an error event may only stand between events."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._last = b"\n\n"

    @property
    def at_boundary(self) -> bool:
        """Whether a whole event was the last."""
        return self._last.endswith(b"\n\n")

    def __call__(self, data: bytes) -> None:
        self._last = data if len(data) > 1 else self._last[-1:] + data
        self._write(data)


def _end_broken(
    respond: Responder, error: PlatformError, *, is_stream: bool = False, at_boundary: bool = False
) -> None:
    """A stream of events ends with an error object; anything else is cut, so that nobody takes it for whole."""
    if is_stream and at_boundary:
        respond.write(error_event(error))
        respond.end()
        respond.keeps_alive = False
    else:
        respond.abort()


def _message(call: Call, service: ServiceRoute, endpoint: Endpoint) -> bytes:
    """The request as the engine gets it: under the name that the engine itself goes by, without what was for the gateway."""
    request, content = call.request, call.request.body
    if call.model and call.model != service.engine_model:
        content = body.with_model(content, service.engine_model)
    path = _path(service, call.target).encode("latin-1")
    query = request.target.partition(b"?")[2]
    lines = [
        b"%s %s HTTP/1.1\r\n" % (request.method, path + (b"?" + query if query else b"")),
        b"host: %s:%d\r\n" % (endpoint.address.encode(), endpoint.port),
    ]
    kept: Headers = [item for item in end_to_end(request.headers) if item[0] not in _REPLACED]
    lines.extend(b"%s: %s\r\n" % item for item in kept)
    lines.append(b"x-request-id: %s\r\n" % call.id.encode())
    lines.append(b"x-forwarded-for: %s\r\n" % request.peer.encode())
    lines.append(b"x-forwarded-host: %s\r\n" % request.header(b"host"))
    if content or request.method in (b"POST", b"PUT", b"PATCH"):
        lines.append(b"content-length: %d\r\n" % len(content))
    lines.append(b"\r\n")
    return b"".join(lines) + content


def _path(service: ServiceRoute, target: Target) -> str:
    """Some engines answer OpenAI's API elsewhere than below /v1."""
    if target.protocol == "openai" and target.path.startswith("/v1/"):
        return service.openai_prefix + target.path.removeprefix("/v1")
    return target.path


def _draining() -> Unavailable:
    return Unavailable("the gateway is stopping", code="gateway_draining", hint="send the request again")


def _unavailable(service: ServiceRoute, message: str, reason: str) -> Unavailable:
    return Unavailable(
        f"no endpoint of {service.namespace}/{service.name} answered: {message} ({reason})",
        code="no_endpoint_answered",
        hint="send the request again",
        retry_after_s=RETRY_AFTER_S,
    )
