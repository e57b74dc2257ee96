"""What admins ask about requests that are over: how one was routed, and a recording of many. All workers of this machine answer together."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from penstock.gateway.call import Call
from penstock.gateway.explained import EXPLAINED, MAX_FOUND, told
from penstock.gateway.recording import RECORDED, fetched
from penstock.gateway.route_record import as_document
from penstock.gateway.state import State
from penstock.kit.eager import in_a_task
from penstock.kit.errors import InvalidInput, NotFound

GATHER_S = 0.5
MAX_ID = 128


class Wish(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a fetch: a recording's id, and the model that it is of (`namespace/name`), "" for all."""

    id: str
    model: str = ""


async def explained(call: Call, state: State) -> bytes:
    """JSON: the records of the request that the path names, latest first. Raises NotFound."""
    request_id = call.target.path
    if not 0 < len(request_id) <= MAX_ID or not (request_id.isascii() and request_id.isprintable()):
        raise NotFound(f"there is no request {request_id[:MAX_ID]!r}: that is no id", code="unknown_request")
    await in_a_task()
    found = state.records.explained.find(request_id)
    for answer in await state.gather(EXPLAINED, GATHER_S, request_id):
        found += told(answer)
    if not found:
        raise NotFound(
            f"no request {request_id} is remembered here",
            code="unknown_request",
            hint="every answer has its id in `x-request-id`; those of services with a choice of endpoints are remembered, or "
            "with the header `x-penstock-explain: true`, and the oldest are forgotten",
        )
    found.sort(key=lambda record: record.at, reverse=True)
    return msgspec.json.encode({"requests": [as_document(record) for record in found[:MAX_FOUND]]})


async def recorded(call: Call, state: State) -> bytes:
    """JSON: what was recorded since the last fetch, and how many requests there was no room for. Raises InvalidInput, Exhausted."""
    try:
        wish = _WISH.decode(call.request.body)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the body is not what it should be: {error}") from None
    if not (wish.model.isascii() and wish.model.isprintable() and len(wish.model) <= 2 * MAX_ID):
        raise InvalidInput("model: expected namespace/name")
    if wish.model:
        state.names.service(wish.model)
    about = f"{wish.id} {wish.model}"
    await in_a_task()
    parts = [state.records.recordings.fetch(about)]
    parts += fetched(await state.gather(RECORDED, GATHER_S, about))
    lines = [line for part in parts for line in part.lines]
    dropped = sum(part.dropped for part in parts)
    return b'{"workers":%d,"dropped":%d,"requests":[%b]}' % (len(parts), dropped, b",".join(lines))


_WISH = msgspec.json.Decoder(Wish)
