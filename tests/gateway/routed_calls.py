"""A router with real plugins, and calls that it sends, for tests of what is told about them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.gateway.call import Call
from penstock.gateway.explained import Explained
from penstock.gateway.paths import Target
from penstock.gateway.router import Router
from penstock.gateway.trace import Traces
from penstock.gateway.wire.message import Head, Request
from penstock.kit.hashing import chain_seed, draw, token_blocks

BLOCK = 16
NAMES = ("a", "b", "c")


def service(*names: str, **routing: Any) -> ServiceRoute:
    pool = tuple(Endpoint(name=name, address="127.0.0.1", port=80) for name in names or NAMES)
    return ServiceRoute(
        namespace="default",
        name="m",
        uid="u",
        engine_model="m",
        revisions=(RevisionRoute(name="m-1", weight_percent=100, endpoints=pool),),
        routing=RoutingRoute(block_tokens=BLOCK, **routing),
    )


def router(*names: str, **routing: Any) -> Router:
    return Router(service(*names, **routing), open_profile)


def prompt(number: int = 0, tokens: int = 320, **more: Any) -> Prompt:
    """Equal numbers, equal words."""
    hashes = token_blocks([number] * tokens, BLOCK, chain_seed("m"))
    return Prompt(draw=draw(f"draw {number}"), tokens=tokens, hashes=hashes, block_tokens=BLOCK, **more)


def call(request_id: str = "r1", *, explains: bool = False, sampled: bool = False, **more: Any) -> Call:
    """One that came at 10 s, and of which nothing has been answered."""
    reading: Any = SimpleNamespace(explains=explains)
    respond: Any = SimpleNamespace(status=200, sent_bytes=0)
    found = Call(
        request=Request(Head(b"POST", b"/v1/chat/completions", [], keep_alive=True), b"", "127.0.0.1"),
        respond=respond,
        id=request_id,
        started=10.0,
        trace=Traces(1.0 if sampled else 0.0).begin(),
        reading=reading,
        target=Target("openai", path="/v1/chat/completions"),
    )
    for name, value in more.items():
        setattr(found, name, value)
    return found


def send(explained: Explained, by: Router, one: Call, asked: Prompt, now: float = 10.0, **more: Any) -> str:
    """As the gateway does it: choose, tell, send; returns the endpoint's name."""
    held = by.held(asked, now)
    route = by.route(by.service, asked, held, now, **more)
    assert route is not None
    one.service = by.service
    explained.chosen(one, by.service, by, asked, held, route, now, **more)
    one.attempts += 1
    name = route.endpoint.name
    one.endpoint, one.revision = name, route.revision
    trip = by.sent(name, asked, held, now)
    assert trip is not None
    explained.sent(one, name, trip, now)
    by.kept(trip, now)
    return name


def answer(by: Router, one: Call, now: float = 11.0, *, cached: int = 0, completion: int = 5) -> None:
    """It streamed from half a second before, and ends now."""
    assert one.trail is not None
    trip, asked = one.trail.trip, one.trail.prompt
    assert trip is not None
    assert asked is not None
    trip.streams = True
    by.began(trip, now - 0.5)
    by.ended(trip, now, asked.tokens, cached, completion)
    one.streams, one.first_byte_at, one.last_byte_at = True, now - 0.5, now
    one.prompt_tokens, one.cached_tokens, one.completion_tokens = asked.tokens, cached, completion


def end(explained: Explained, one: Call) -> None:
    assert one.trail is not None
    assert one.trail.route is not None
    explained.ended(one, one.trail, one.trail.route)
