"""Which service is asked, and for what? The path or Host names it, or the body does, or the query."""

from __future__ import annotations

from urllib.parse import parse_qs

from penstock.contracts.exchange import ServiceRoute
from penstock.gateway import body, multipart
from penstock.gateway.body import ModelRequest
from penstock.gateway.call import Call
from penstock.gateway.names import Names
from penstock.gateway.wire.message import WITH_BODY
from penstock.kit.errors import InvalidInput, NotFound


def is_large(call: Call) -> bool:
    """Whether reading takes so long that others should get their turn meanwhile."""
    target = call.target
    return (
        len(call.request.body) > body.LARGE_BYTES
        and (target.service is None or target.tells_usage)
        and not call.reading.is_form
    )


async def read_large(call: Call) -> ModelRequest:
    """The body, if it is large. Raises InvalidInput for what is not a JSON object, unless the service is known already."""
    if call.target.service is None:
        return await body.read_large(call.request.body)
    return await body.peek_large(call.request.body)


def read(call: Call, names: Names, asked: ModelRequest | None = None) -> ServiceRoute:
    """The service; fills in model, stream and token limit. Raises InvalidInput, and NotFound for a model that does not exist.

    `asked` is the body where it has been read already, since it is large.
    """
    target, request = call.target, call.request
    if target.service is not None:
        service = target.service
        if target.tells_usage and request.head.method == b"POST":
            _take(call, asked or body.peek(request.body))
    elif request.head.method not in WITH_BODY:
        call.model = _in_query(call)
        service = names.service(call.model)
    elif call.reading.is_form:
        call.model = multipart.model(request.body)
        service = names.service(call.model)
    else:
        asked = asked or body.read(request.body)
        call.model = asked.model
        service = _tagged(call, names) if target.protocol == "ollama" else names.service(asked.model)
        _take(call, asked)
    call.service = service
    if call.dialect is not None:
        _translate(call, service)
    return service


def _tagged(call: Call, names: Names) -> ServiceRoute:
    """Ollama's clients add `:latest` to names without a tag."""
    if call.model.endswith(":latest"):
        try:
            return names.service(call.model)
        except NotFound:
            return names.service(call.model.removesuffix(":latest"))
    return names.service(call.model)


def _take(call: Call, asked: ModelRequest) -> None:
    call.asks = asked
    call.max_tokens = asked.token_limit
    if asked.stream is True:
        call.streams, call.wants_usage = True, asked.wants_usage


def _translate(call: Call, service: ServiceRoute) -> None:
    """Into OpenAI's words, unless the engine speaks the caller's own."""
    dialect = call.dialect
    assert dialect is not None
    if dialect.name in service.protocols:
        return
    asked = call.asked = dialect.request(call.target.path, call.request.body)
    call.asks = None
    call.streams, call.max_tokens = asked.streams, asked.max_tokens


def _in_query(call: Call) -> str:
    """As `/v1/realtime?model=NAME` has it."""
    query = call.request.head.target.partition(b"?")[2].decode("latin-1")
    found = parse_qs(query, max_num_fields=100).get("model", [""])[0] if query else ""
    if not found:
        raise InvalidInput(
            f"{call.request.head.method.decode()} {call.request.head.path} names no model",
            code="missing_model",
            hint="write /serving/NAMESPACE/NAME in front of the path",
        )
    return found
