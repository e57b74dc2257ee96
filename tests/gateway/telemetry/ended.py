"""Calls that have ended, for tests of what is told about them."""

from types import SimpleNamespace
from typing import Any

from penstock.contracts.exchange import KeyRoute, ServiceRoute
from penstock.gateway.call import Call
from penstock.gateway.paths import Target
from penstock.gateway.trace import Trace, Traces
from penstock.gateway.wire.message import Head, Request

SERVICE = ServiceRoute(namespace="default", name="qwen", uid="u", engine_model="qwen2")
KEY = KeyRoute(id="k-public", namespace="default", name="alice", tenant="acme")


def call(
    status: int = 200,
    path: str = "/v1/chat/completions",
    body: bytes = b"{}",
    trace: Trace | None = None,
    **more: Any,
) -> Call:
    """One that began at 10 s. Of its answer only the status and the bytes are looked at, of how it was read nothing."""
    respond: Any = SimpleNamespace(status=status, sent_bytes=100)
    unread: Any = None
    more = {"service": SERVICE, "key": KEY, **more}
    return Call(
        request=Request(Head(b"POST", path.encode(), [], keep_alive=True), body, "127.0.0.1"),
        respond=respond,
        id="r1",
        started=10.0,
        trace=trace or Traces().begin(),
        reading=unread,
        target=Target("openai", path=path.partition("?")[0]),
        **more,
    )


def stream(**more: Any) -> Call:
    """One whose first byte came after 0.3 s and whose last came 0.8 s later."""
    told = {"prompt_tokens": 20, "completion_tokens": 5, "cached_tokens": 16}
    return call(streams=True, first_byte_at=10.3, last_byte_at=11.1, chunks=6, **{**told, **more})
