"""Before a load: is the server there, does it know the model and the key, and does it answer one request as the load will put it?"""

from __future__ import annotations

import time

from msgspec import DecodeError, Struct, ValidationError, field
from msgspec.json import decode

from penstock.gateway.wire.client import UpstreamError
from penstock.kit.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    Unauthorized,
    Unavailable,
    kind_of,
    nearest,
)
from penstock.testing.load.client import REFUSED, Client
from penstock.testing.load.conversation import Conversation, Turn
from penstock.testing.load.player import Asking, Speech
from penstock.testing.load.target import PATHS
from penstock.testing.load.text import Piece, Writer

NAMED = 10
KEY_HINT = "put a key into PENSTOCK_API_KEY, or into a file that --api-key-file (--against-key-file) names"
PROBE = Conversation((Turn((Piece("probe", 8),), 2),))


class Model(Struct):
    """An entry of the list."""

    id: str


class Models(Struct):
    """What /v1/models answers."""

    data: list[Model] = field(default_factory=list)


async def find_model(client: Client, model: str) -> tuple[str, NotFound | None]:
    """The model (the only one there is for ""), and what to say of it if it does not answer: some routers list models by other names.

    Raises PlatformError that says what to do next.
    """
    names = await _names(client)
    if names is None:
        if model:
            return model, None
        raise InvalidInput(
            f"{client.target.url} lists no models, so the model must be named",
            hint="penstock bench NAME",
        )
    shown = ", ".join(names[:NAMED]) or "none"
    if model in names:
        return model, None
    if model:
        close = nearest(model, tuple(names))
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {shown}"
        return model, NotFound(f"{client.target.url} has no model {model!r}", hint=hint)
    if len(names) != 1:
        raise InvalidInput(
            f"{client.target.url}: found {len(names)} models, expected the name of one",
            hint=f"it has {shown}",
        )
    return names[0], None


async def _names(client: Client) -> list[str] | None:
    """None where the server keeps no list."""
    try:
        reply = await client.get("/v1/models")
    except UpstreamError as error:
        raise Unavailable(
            f"{client.target.url} cannot be reached: {error}",
            hint="`penstock up` starts the gateway of this machine; --url names another",
        ) from None
    except TimeoutError:
        raise DeadlineExceeded(f"{client.target.url} did not answer in time") from None
    if reply.status in (401, 403):
        raise Unauthorized(f"{client.target.url} refuses the key ({reply.status})", hint=KEY_HINT)
    if reply.status >= REFUSED:
        return None
    try:
        return [model.id for model in decode(reply.body, type=Models).data]
    except (DecodeError, ValidationError):
        raise InvalidInput(
            f"{client.target.url}: /v1/models is not as OpenAI's API has it",
            hint="--url is the address of an OpenAI-compatible server, without a path",
        ) from None


async def probe(client: Client, speech: Speech, writer: Writer, doubt: NotFound | None = None) -> None:
    """One small request. Raises PlatformError if it is not answered as a load needs it: `doubt`, where there is one."""
    asking = Asking(PROBE, writer, speech)
    outcome = await client.ask(PATHS[speech.api], asking.body(PROBE.turns[0]), time.monotonic())
    if outcome.ok or outcome.error == "empty":
        return
    if doubt is not None:
        raise doubt
    hints = {
        400: "--no-ignore-eos leaves out a field that not every server takes",
        401: KEY_HINT,
        403: KEY_HINT,
        404: "--api completions or --api chat asks the other way",
    }
    raise kind_of(outcome.status, default=Unavailable)(
        f"{client.target.url}: one request to try failed: {outcome.error}: {outcome.message}",
        hint=hints.get(outcome.status, ""),
    )
