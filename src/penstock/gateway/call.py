"""One request under way, as the stages of the pipeline hand it on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from penstock.contracts.exchange import KeyRoute, ServiceRoute
from penstock.contracts.tokenizing import Told
from penstock.decide.quota import Reservation
from penstock.gateway.body import ModelRequest
from penstock.gateway.dialects.dialect import Dialect, Translated
from penstock.gateway.paths import Target
from penstock.gateway.reading import Reading
from penstock.gateway.trace import Trace
from penstock.gateway.trail import Trail
from penstock.gateway.wire.message import Request
from penstock.gateway.wire.responder import Responder

if TYPE_CHECKING:
    from penstock.gateway.waiting_room import Turn


class Call(Struct):
    """`started`, `admitted` (after a wait), `first_byte_at` and `last_byte_at` are monotonic times, 0 where that has not happened.

    `model` is the name that the body says, "" where path or Host name the service. `key` is the caller's, None where none was
    asked for. `max_tokens` is what the caller allows, 0 where it says nothing. Token counts are what the engine told, -1 where it told
    nothing, and `prompt_bytes` those in which its prompt is written, as far as they have been measured. `asked` is the request in OpenAI's words where `dialect` had to translate it; `asks` are those fields of the body that the
    gateway reads, None where it has not; `told` is its prompt in tokens, None where it has not been tokenized. `error` is the code of what went wrong.
    `way` is how its service's router has it find its endpoint (a `way.Way`, None where there is no router: `Ways.of`), `turn` what it counts for in its service's waiting room. `trail` is how a router sent
    it, `failures` are those of attempts that were followed by another; `route_header` says how it was routed, with its end, b"" where the
    caller did not ask.
    """

    request: Request
    respond: Responder
    id: str
    started: float
    trace: Trace
    reading: Reading
    target: Target
    model: str = ""
    service: ServiceRoute | None = None
    key: KeyRoute | None = None
    dialect: Dialect | None = None
    asked: Translated | None = None
    asks: ModelRequest | None = None
    told: Told | None = None
    streams: bool = False
    wants_usage: bool = False
    max_tokens: int = 0
    revision: str = ""
    endpoint: str = ""
    attempts: int = 0
    admitted: float = 0.0
    first_byte_at: float = 0.0
    last_byte_at: float = 0.0
    chunks: int = 0
    prompt_bytes: int = 0
    prompt_tokens: int = -1
    cached_tokens: int = -1
    completion_tokens: int = -1
    error: str = ""
    reservation: Reservation | None = None
    trail: Trail | None = None
    way: Any = None
    turn: Turn | None = None
    failures: tuple[str, ...] = ()
    route_header: bytes = b""


def session_of(call: Call, service: ServiceRoute) -> str:
    """What the service's `split_by` makes of the request: one session for each API key, or each value of a header. "" where it has none.

    The service is part of it, so that nobody is among the first to meet what is new everywhere.
    """
    if service.split_by == "key":
        value = call.key.id if call.key is not None else ""
    else:
        value = call.request.head.header(service.split_by.encode()).decode("latin-1")
    return f"{service.namespace}/{service.name} {value}" if value else ""
