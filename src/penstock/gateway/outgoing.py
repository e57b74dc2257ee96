"""The request as the engine gets it: under the name that the engine itself goes by, without what was for the gateway."""

from __future__ import annotations

from penstock.contracts.exchange import Endpoint, ServiceRoute
from penstock.gateway import body, multipart, usage
from penstock.gateway.call import Call
from penstock.gateway.reading import REQUEST_ID
from penstock.gateway.wire.message import (
    HOP_BY_HOP,
    WITH_BODY,
    Answer,
    Headers,
    Request,
    lines,
    named_by_connection,
    status_line,
)

LOOPBACK = ("127.", "::1")
_TOLD_ANEW = frozenset((b"content-type", b"content-length", b"content-encoding"))


def content(call: Call, service: ServiceRoute) -> bytes:
    """The body: renamed, translated, and asking for usage where the caller's stream would not tell it."""
    model = call.model if call.asked is None else call.asked.model
    is_known = model == service.engine_model or model in service.adapters
    if call.asked is not None:
        data = call.asked.body
        return data if is_known else body.with_model(data, service.engine_model, call.asks)
    data = call.request.body
    if data and model and not is_known:
        name = service.engine_model
        is_form = call.reading.is_form
        data = multipart.with_model(data, name) if is_form else body.with_model(data, name, call.asks)
    if call.streams and not call.wants_usage and call.target.tells_usage:
        data = usage.ask_for_usage(data) or data
    return data


def message(
    call: Call, service: ServiceRoute, endpoint: Endpoint, data: bytes, told: tuple[bytes, bytes] | None
) -> bytes:
    """Head and body. `told` is the deadline's header, as it stands now."""
    reading, request = call.reading, call.request
    start = reading.starts.get(endpoint.name)
    if start is None or call.asked is not None:
        start = _start(call, service, endpoint)
        if call.asked is None:
            reading.starts[endpoint.name] = start
    if reading.peer != request.peer:
        reading.peer, reading.who = request.peer, _who(request)
    further = b"%b: %b\r\n" % told if told is not None else b""
    if request.head.upgrade:
        further += b"connection: upgrade\r\nupgrade: %b\r\n" % request.head.upgrade
    elif data or request.head.method in WITH_BODY:
        further += b"content-length: %d\r\n" % len(data)
    if call.trace.tracestate:
        further += b"tracestate: %b\r\n" % call.trace.tracestate
    return b"%b%b%btraceparent: %b\r\nx-request-id: %b\r\n%b\r\n%b" % (
        start,
        reading.lines if call.asked is None else reading.translated,
        reading.who,
        call.trace.traceparent,
        call.id.encode(),
        further,
        data,
    )


def engine_path(path: str, service: ServiceRoute) -> str:
    """Where the engine answers what OpenAI's API has at `path`."""
    moves = path.startswith("/v1/") and service.openai_prefix != "/v1"
    return service.openai_prefix + path[3:] if moves else path


def _start(call: Call, service: ServiceRoute, endpoint: Endpoint) -> bytes:
    head, asked = call.request.head, call.asked
    text = asked.path if asked is not None else call.target.path
    path = (text if call.target.protocol == "v1" else engine_path(text, service)).encode("latin-1")
    question, query = head.target.partition(b"?")[1:] if asked is None else (b"", b"")
    line = (head.method, path, question, query, endpoint.address.encode(), endpoint.port)
    return b"%b %b%b%b HTTP/1.1\r\nhost: %b:%d\r\n" % line


def _who(request: Request) -> bytes:
    """Who asked, in the field's two ways (RFC 7239, and what came before it).

    What a proxy on this machine says of its own client is kept; what any other client says is not: it may say anything.
    """
    head = request.head
    peer, host, scheme = request.peer.encode(), head.header(b"host"), b"https" if request.is_tls else b"http"
    before, forwarded = b"", b""
    if request.peer.startswith(LOOPBACK):
        for name, value in head.headers:
            if name == b"x-forwarded-for":
                before += value + b", "
            elif name == b"forwarded":
                forwarded += value + b", "
            elif name == b"x-forwarded-proto" and value in (b"http", b"https"):
                scheme = value
    quoted = b'"[%b]"' % peer if b":" in peer else peer
    return (
        b"x-forwarded-for: %b%b\r\nx-forwarded-host: %b\r\nx-forwarded-proto: %b\r\n"
        b'forwarded: %bfor=%b;host="%b";proto=%b\r\n'
        % (before, peer, host, scheme, forwarded, quoted, host, scheme)
    )


def identity(call: Call) -> Headers:
    """What every answer carries; Anthropic's client reads its own header."""
    request_id = call.id.encode()
    headers = [(REQUEST_ID, request_id)]
    if call.target.protocol == "anthropic":
        headers.append((b"request-id", request_id))
    if call.route_header:
        name, _, value = call.route_header.removesuffix(b"\r\n").partition(b": ")
        headers.append((name, value))
    return headers


def answer_start(answer: Answer, call: Call) -> bytes:
    """Status line and header lines of an engine's answer that is passed on, without its length and end."""
    if type(answer.memo) is not bytes:
        kept = answer_headers(answer, told_anew=False)
        answer.memo = status_line(answer.status) + lines(kept)
    own = f"x-request-id: {call.id}\r\nx-penstock-endpoint: {call.endpoint}\r\n".encode()
    if call.target.protocol == "anthropic":
        own += b"request-id: %b\r\n" % call.id.encode()
    return answer.memo + own + call.route_header


def answer_headers(answer: Answer, *, told_anew: bool) -> Headers:
    """The engine's headers that go on, without the length. `told_anew`: the body is another one."""
    dropped = HOP_BY_HOP | {REQUEST_ID, b"content-length"} | named_by_connection(answer.headers)
    if told_anew:
        dropped |= _TOLD_ANEW
    return [item for item in answer.headers if item[0] not in dropped]
