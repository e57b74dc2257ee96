"""Answers that are told in the caller's own dialect, or whose connection speaks another protocol from then on."""

from __future__ import annotations

from collections.abc import Callable

from penstock.gateway import outgoing
from penstock.gateway.call import Call
from penstock.gateway.dialects.dialect import CallInfo
from penstock.gateway.relay import Collected
from penstock.gateway.wire.client import Upstream
from penstock.gateway.wire.message import Answer, Headers
from penstock.gateway.wire.tunnel import Tunnel


def tell_collected(call: Call, relay: Collected, upstream: Upstream, body: bytes, limits: Headers) -> None:
    """What an engine answered in pieces."""
    assert call.dialect is not None, "only a dialect collects"
    assert upstream.answer is not None, "it has begun"
    kept = outgoing.answer_headers(upstream.answer, told_anew=True)
    kind = (b"content-type", call.dialect.content_type(call.streams and relay.status < 400))
    call.respond.send(relay.status, [*kept, kind, *outgoing.identity(call), *limits], body)


def begin_telling(call: Call, answer: Answer, limits: Headers) -> None:
    """A stream of events begins."""
    assert call.dialect is not None, "only a dialect tells anew"
    kept = outgoing.answer_headers(answer, told_anew=True)
    kind = (b"content-type", call.dialect.content_type(True))
    call.respond.start(answer.status, [*kept, kind, *outgoing.identity(call), *limits])


def begin_tunnel(
    call: Call, upstream: Upstream, answer: Answer, closed: Callable[[int, int], None]
) -> Tunnel:
    """Bytes pass unread until both sides have closed; `closed` is told how many, up and down."""
    headers = outgoing.answer_headers(answer, told_anew=False) + outgoing.identity(call)
    switch = [(b"connection", b"upgrade"), (b"upgrade", call.request.head.upgrade)]
    client = call.respond.connection
    tunnel = upstream.tunnel = Tunnel(client.transport, upstream.transport, closed)
    call.respond.upgrade(headers + switch)
    tunnel.from_client(client.switch(tunnel))
    return tunnel


def tell_without_engine(call: Call, info: CallInfo) -> None:
    """The service is awake, and that is all the caller wanted."""
    assert call.dialect is not None, "only a dialect has such requests"
    assert call.asked is not None, "it has been translated"
    status, body = call.dialect.whole(200, b"", call.asked, info)
    kind = (b"content-type", call.dialect.content_type(call.streams))
    call.respond.send(status, [kind, *outgoing.identity(call)], body)
