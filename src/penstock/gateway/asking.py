"""Which service is asked, and for what? The path or Host names it, or the body does, or the query."""

from __future__ import annotations

from urllib.parse import parse_qs

from penstock.contracts.exchange import ServiceRoute
from penstock.gateway import body, multipart
from penstock.gateway.body import ModelRequest
from penstock.gateway.call import Call
from penstock.gateway.names import Names
from penstock.kit.eager import in_a_task
from penstock.kit.errors import InvalidInput, NotFound

WITH_BODY = (b"POST", b"PUT", b"PATCH")


async def read(call: Call, names: Names) -> None:
    """Fill in service, model, stream and token limit. Raises InvalidInput, and NotFound for a model that does not exist."""
    target, request = call.target, call.request
    if target.service is not None:
        call.service = target.service
        if target.tells_usage and request.method == b"POST":
            _take(call, body.peek(request.body))
    elif request.method not in WITH_BODY:
        call.model = _in_query(call)
        call.service = names.service(call.model)
    elif multipart.is_form(request.headers):
        call.model = multipart.model(request.body)
        call.service = names.service(call.model)
    else:
        if len(request.body) > body.LARGE_BYTES:
            await in_a_task()
            asked = await body.read_large(request.body)
        else:
            asked = body.read(request.body)
        call.model = asked.model
        call.service = _service(call, names)
        _take(call, asked)
    if call.dialect is not None:
        _translate(call, call.service)


def _service(call: Call, names: Names) -> ServiceRoute:
    """Ollama's clients add `:latest` to names without a tag."""
    if call.target.protocol == "ollama" and call.model.endswith(":latest"):
        try:
            return names.service(call.model)
        except NotFound:
            return names.service(call.model.removesuffix(":latest"))
    return names.service(call.model)


def _take(call: Call, asked: ModelRequest) -> None:
    call.streams = asked.stream is True
    call.max_tokens = asked.token_limit
    call.wants_usage = asked.wants_usage


def _translate(call: Call, service: ServiceRoute) -> None:
    """Into OpenAI's words, unless the engine speaks the caller's own."""
    dialect = call.dialect
    assert dialect is not None
    if dialect.name in service.protocols:
        return
    asked = call.asked = dialect.request(call.target.path, call.request.body)
    call.streams, call.max_tokens = asked.streams, asked.max_tokens


def _in_query(call: Call) -> str:
    """As `/v1/realtime?model=NAME` has it."""
    query = call.request.target.partition(b"?")[2].decode("latin-1")
    found = parse_qs(query, max_num_fields=100).get("model", [""])[0] if query else ""
    if not found:
        raise InvalidInput(
            f"{call.request.method.decode()} {call.request.path} names no model",
            code="missing_model",
            hint="write /serving/NAMESPACE/NAME in front of the path",
        )
    return found
