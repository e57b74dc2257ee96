"""Calls as the pipeline hands them on, for what looks at their bodies only."""

from __future__ import annotations

import json
from typing import Any, cast

from penstock.contracts.exchange import RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.gateway import asking, body
from penstock.gateway.body import ModelRequest
from penstock.gateway.call import Call
from penstock.gateway.names import Names
from penstock.gateway.paths import Target
from penstock.gateway.reading import Reading
from penstock.gateway.trace import Traces
from penstock.gateway.wire.message import Head, Request
from penstock.gateway.wire.responder import Responder

SERVICE = ServiceRoute(
    namespace="default",
    name="m",
    uid="u",
    engine_model="m",
    aliases=("an-adapter", "a-name"),
    adapters=("an-adapter",),
    routing=RoutingRoute(),
)


class Sent(Call):
    """A call that can be read as a large one is."""

    async def read_large(self) -> ModelRequest:
        read = self.asks = await asking.read_large(self)
        return read


def call_of(
    said: dict[str, Any] | bytes, *, session: str = "", batch: bool = False, id: str = "r", path: str = ""
) -> Sent:
    """It asks for SERVICE, and what it allows has been read of it; nobody waits for its answer."""
    raw = said if isinstance(said, bytes) else json.dumps(said).encode()
    target = Target("openai", path=path or "/v1/chat/completions", tells_usage=True)
    head = Head(b"POST", target.path.encode(), [], keep_alive=True)
    reading = Reading(
        cast("Names", None), target, None, None, 0.0, id, b"", b"", False, False, b"", b"",
        session=session, is_batch=batch,
    )  # fmt: skip
    request = Request(head, raw, "127.0.0.1")
    call = Sent(request, cast("Responder", None), id, 0.0, Traces(0.0).begin(b"", b""), reading, target)
    if len(raw) <= body.LARGE_BYTES:
        asks = body.peek(raw)
        call.max_tokens = asks.token_limit
        call.model = asks.model if isinstance(asks.model, str) else ""
    return call


def shared(one: Prompt, two: Prompt) -> int:
    """How many blocks both begin with."""
    pairs = zip(one.hashes, two.hashes, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one.hashes), len(two.hashes)))
