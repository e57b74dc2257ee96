"""Answers that the gateway gives itself: health, metrics, and what is served."""

from __future__ import annotations

from typing import Any

import orjson

from penstock import __version__
from penstock.contracts.exchange import ServiceRoute
from penstock.gateway.paths import Target
from penstock.gateway.state import State
from penstock.gateway.telemetry.metrics import Readings, total

Answer = tuple[int, bytes, bytes]
_JSON, _TEXT = b"application/json", b"text/plain; charset=utf-8"
_PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"


def answer(target: Target, state: State) -> Answer:
    """Status, content type and body. Raises NotFound for a model that does not exist."""
    match target.local:
        case "healthz":
            return 200, _TEXT, b"ok\n"
        case "readyz":
            return (
                (200, _TEXT, b"ok\n") if state.loaded else (503, _TEXT, b"no route table has arrived yet\n")
            )
        case "metrics":
            return 200, _PROMETHEUS, _metrics(state).encode()
        case "models":
            data = [_model(name, service) for name, service in state.names.models()]
            return 200, _JSON, orjson.dumps({"object": "list", "data": data})
        case "model":
            return 200, _JSON, orjson.dumps(_model(target.model, state.names.service(target.model)))
        case "v2":
            return 200, _JSON, orjson.dumps({"name": "penstock", "version": __version__, "extensions": []})
        case "v2_live":
            return 200, _JSON, orjson.dumps({"live": True})
        case _:
            return 200 if state.loaded else 503, _JSON, orjson.dumps({"ready": state.loaded})


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


def _metrics(state: State) -> str:
    return total(state.telemetry.snapshot(readings(state)))


def readings(state: State) -> Readings:
    """What `state` holds at this moment, for its telemetry."""
    server = state.server
    return Readings(
        in_flight={key: count for key, count in state.in_flight.items() if count},
        waiting=state.activator.waiting,
        connections=len(server.connections) if server else 0,
        table_version=state.names.table.version,
        refused=server.refused if server else {},
    )
