"""The request as the engine gets it: under the name that the engine itself goes by, without what was for the gateway."""

from __future__ import annotations

from penstock.contracts.exchange import Endpoint, ServiceRoute
from penstock.decide import deadline
from penstock.gateway import access, body, multipart, usage
from penstock.gateway.call import Call
from penstock.gateway.wire.message import HOP_BY_HOP, Headers, named_by_connection

_OURS = frozenset(
    (b"host", b"content-length", b"x-request-id", b"expect", b"forwarded", b"x-forwarded-for", b"x-forwarded-host",
     b"x-forwarded-proto", b"traceparent", b"tracestate", *deadline.HEADERS)
)  # fmt: skip
_DROPPED = HOP_BY_HOP | _OURS
_TRANSLATED = frozenset(
    (b"content-type", b"accept", b"accept-encoding", b"anthropic-version", b"anthropic-beta")
)
LOOPBACK = ("127.", "::1")


def content(call: Call, service: ServiceRoute) -> bytes:
    """The body: renamed, translated, and asking for usage where the caller's stream would not tell it."""
    if call.asked is not None:
        data = call.asked.body
        return (
            data if call.asked.model == service.engine_model else body.with_model(data, service.engine_model)
        )
    data = call.request.body
    if call.model and call.model != service.engine_model:
        renamed = multipart.with_model if multipart.is_form(call.request.headers) else body.with_model
        data = renamed(data, service.engine_model) if data else data
    if call.streams and not call.wants_usage and call.target.tells_usage:
        data = usage.ask_for_usage(data) or data
    return data


def message(
    call: Call, service: ServiceRoute, endpoint: Endpoint, data: bytes, told: tuple[bytes, bytes] | None
) -> bytes:
    """Head and body. `told` is the deadline's header, as it stands now."""
    request = call.request
    path = (call.asked.path if call.asked is not None else call.target.path).encode("latin-1")
    if path.startswith(b"/v1/") and service.openai_prefix != "/v1" and call.target.protocol != "v1":
        path = service.openai_prefix.encode() + path[3:]
    question, query = request.target.partition(b"?")[1:]
    lines = [
        b"%b %b%b%b HTTP/1.1\r\nhost: %b:%d\r\n"
        % (request.method, path, question, query, endpoint.address.encode(), endpoint.port)
    ]
    dropped = _DROPPED
    if named := named_by_connection(request.headers):
        dropped |= named
    if call.asked is not None:
        dropped |= _TRANSLATED
        lines.append(b"content-type: application/json\r\n")
    for name, value in request.headers:
        if name not in dropped and (name not in access.CREDENTIALS or not access.carries_key(name, value)):
            lines.append(b"%b: %b\r\n" % (name, value))
    lines.extend(b"%b: %b\r\n" % item for item in call.trace.headers)
    if told is not None:
        lines.append(b"%b: %b\r\n" % told)
    lines.append(_who(call))
    if request.upgrade:
        lines.append(b"connection: upgrade\r\nupgrade: %b\r\n" % request.upgrade)
    if data or request.method in (b"POST", b"PUT", b"PATCH"):
        lines.append(b"content-length: %d\r\n" % len(data))
    lines.append(b"\r\n")
    lines.append(data)
    return b"".join(lines)


def _who(call: Call) -> bytes:
    """Who asked, in the field's two ways (RFC 7239, and what came before it).

    What a proxy on this machine says of its own client is kept; what any other client says is not: it may say anything.
    """
    request = call.request
    peer, host, scheme = (
        request.peer.encode(),
        request.header(b"host"),
        b"https" if request.is_tls else b"http",
    )
    before, forwarded = b"", b""
    if request.peer.startswith(LOOPBACK):
        for name, value in request.headers:
            if name == b"x-forwarded-for":
                before += value + b", "
            elif name == b"forwarded":
                forwarded += value + b", "
            elif name == b"x-forwarded-proto" and value in (b"http", b"https"):
                scheme = value
    quoted = b'"[%b]"' % peer if b":" in peer else peer
    return (
        b"x-request-id: %b\r\nx-forwarded-for: %b%b\r\nx-forwarded-host: %b\r\nx-forwarded-proto: %b\r\n"
        b'forwarded: %bfor=%b;host="%b";proto=%b\r\n'
        % (call.id.encode(), before, peer, host, scheme, forwarded, quoted, host, scheme)
    )


def answer_headers(headers: Headers, call: Call, *, sized: bool) -> Headers:
    """The engine's headers as the caller gets them. `sized`: the body's length stays what the engine said."""
    named = named_by_connection(headers)
    kept = [
        item
        for item in headers
        if item[0] not in HOP_BY_HOP
        and item[0] != b"x-request-id"
        and (sized or item[0] != b"content-length")
    ]
    if named:
        kept = [item for item in kept if item[0] not in named]
    kept.append((b"x-request-id", call.id.encode()))
    kept.append((b"x-penstock-endpoint", call.endpoint.encode()))
    return kept


def with_type(headers: Headers, content_type: bytes) -> Headers:
    """Headers of an answer whose body is told anew."""
    kept = [
        item for item in headers if item[0] not in (b"content-type", b"content-length", b"content-encoding")
    ]
    return [*kept, (b"content-type", content_type)]
