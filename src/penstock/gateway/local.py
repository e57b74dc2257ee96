"""Answers that the gateway gives itself: health, metrics, and what is served."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from penstock import __version__
from penstock.contracts.exchange import ServiceRoute
from penstock.gateway import history
from penstock.gateway.call import Call
from penstock.gateway.dialects.ollama import catalogue
from penstock.gateway.errors import JSON
from penstock.gateway.state import State
from penstock.gateway.telemetry.metrics import total
from penstock.gateway.wire.message import Headers
from penstock.kit.eager import in_a_task

Answer = tuple[int, Headers, bytes]
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_OPENMETRICS = b"application/openmetrics-text"


async def answer(call: Call, state: State) -> Answer:
    """Status, headers and body. Raises NotFound for a model that does not exist."""
    match call.target.local:
        case "healthz":
            return 200, [_TEXT], b"ok\n"
        case "readyz":
            return (
                (200, [_TEXT], b"ok\n")
                if state.is_ready
                else (503, [_TEXT], b"no route table has arrived yet\n")
            )
        case "metrics":
            return await _metrics(call, state)
        case "models":
            return _json(
                {"object": "list", "data": [_model(name, service) for name, service in _seen(call, state)]}
            )
        case "model":
            call.service = state.names.service(call.target.model)
            state.access.check(call.key, call.service)
            return _json(_model(call.target.model, call.service))
        case "tags":
            return 200, [JSON], catalogue.tags(_seen(call, state))
        case "version":
            return 200, [JSON], catalogue.version()
        case "show":
            call.service = state.names.service(catalogue.asked_for(call.request.body))
            state.access.check(call.key, call.service)
            return 200, [JSON], catalogue.show(call.service)
        case "request" | "recording":
            ask = history.explained if call.target.local == "request" else history.recorded
            return 200, [JSON], await ask(call, state)
        case "v2":
            return _json({"name": "penstock", "version": __version__, "extensions": []})
        case "v2_live":
            return _json({"live": True})
        case _:
            return _json({"ready": state.is_ready}, 200 if state.is_ready else 503)


def _json(document: dict[str, Any], status: int = 200) -> Answer:
    return status, [JSON], orjson.dumps(document)


def _seen(call: Call, state: State) -> list[tuple[str, ServiceRoute]]:
    """What the caller's key reaches."""
    return [(name, service) for name, service in state.names.models() if state.access.sees(call.key, service)]


def _model(name: str, service: ServiceRoute) -> dict[str, Any]:
    """OpenAI's model object, with KServe V1's `name` and `ready` beside it: both ask at the same path."""
    ready = any(revision.endpoints for revision in service.revisions if revision.weight_percent)
    return {
        "id": name,
        "object": "model",
        "created": int(service.created_at),
        "owned_by": service.namespace,
        "name": service.name,
        "ready": ready,
        "phase": service.phase,
        "message": service.message,
        "revisions": {
            r.name: {"percent": r.weight_percent, "ready": len(r.endpoints)} for r in service.revisions
        },
    }


async def _metrics(call: Call, state: State) -> Answer:
    """The sum over all workers: whoever scrapes cannot choose which one answers."""
    openmetrics = call.request.head.header(b"accept").find(_OPENMETRICS) >= 0
    await in_a_task()
    others = await state.gather_metrics()
    text = await asyncio.to_thread(total, state.snapshot(), others, openmetrics=openmetrics)
    kind = _OPENMETRICS + b"; version=1.0.0" if openmetrics else b"text/plain; version=0.0.4"
    return 200, [(b"content-type", kind + b"; charset=utf-8")], text.encode()
