"""What is served, as Ollama's clients ask for it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import orjson
from msgspec import Struct

from penstock.contracts.exchange import ServiceRoute
from penstock.gateway.dialects.dialect import Body
from penstock.gateway.dialects.reading import missing, read
from penstock.kit.timestamps import rfc3339


class _Show(Struct):
    model: str = ""
    name: str = ""


_SHOW = msgspec.json.Decoder(_Show)
API_VERSION = "0.12.0"
"""The release of Ollama whose API is spoken here: clients refuse to talk to one that is too old."""


def version() -> bytes:
    """Answer of GET /api/version."""
    return orjson.dumps({"version": API_VERSION})


def tags(models: Iterable[tuple[str, ServiceRoute]]) -> bytes:
    """Answer of GET /api/tags. The gateway knows neither files nor sizes: these are 0 or empty, as Ollama leaves them for models elsewhere."""
    return orjson.dumps({"models": [_model(name, service) for name, service in models]})


def asked_for(body: bytes) -> str:
    """The model that POST /api/show asks for: `model`, in older clients `name`. Raises InvalidInput."""
    asked = read(_SHOW, body)
    if not (asked.model or asked.name):
        raise missing("model", "the name of a model")
    return asked.model or asked.name


def show(service: ServiceRoute) -> bytes:
    """Answer of POST /api/show: that it can be asked for text. What else it can do only the engine knows."""
    told = {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "modified_at": rfc3339(service.created_at),
        "details": _details(),
        "model_info": {},
        "capabilities": ["completion"],
    }
    return orjson.dumps(told)


def _model(name: str, service: ServiceRoute) -> Body:
    return {
        "name": name,
        "model": name,
        "modified_at": rfc3339(service.created_at),
        "size": 0,
        "digest": service.uid,
        "details": _details(),
    }


def _details() -> Body:
    empty = dict.fromkeys(("parent_model", "format", "family", "parameter_size", "quantization_level"), "")
    return {**empty, "families": None}
