"""Reading request bodies and query parameters, each within its bound."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request

from penstock.host.api import protobuf
from penstock.kit.errors import InvalidInput, TooLarge, UnsupportedMedia
from penstock.resources.parse import documents

MAX_BODY_BYTES = 3 << 20
JSON = "application/json"
YAML = ("application/yaml", "application/apply-patch+yaml")


def media_type(request: Request) -> str:
    """The Content-Type without parameters; JSON when none is given."""
    return request.headers.get("content-type", JSON).partition(";")[0].strip().lower() or JSON


async def read_body(request: Request) -> bytes:
    """The body. Raises TooLarge at once when it is, or says it will be, longer than 3 MiB."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    return bytes(body)


async def read_object(request: Request) -> dict[str, Any]:
    """A JSON or YAML object, or one of the few that are understood as protobuf; {} when there is no body."""
    kind = media_type(request)
    if kind not in (JSON, protobuf.MEDIA_TYPE, *YAML):
        raise UnsupportedMedia(
            f"the body of the request was in an unknown format ({kind}) - accepted media types include:"
            " application/json, application/yaml"
        )
    body = await read_body(request)
    if not body:
        return {}
    if kind == protobuf.MEDIA_TYPE:
        return protobuf.decode(body)
    if kind in YAML and not body.lstrip().startswith(b"{"):
        found = documents(body.decode(errors="replace"))
        if len(found) != 1:
            raise InvalidInput(f"the body has {len(found)} documents, expected one")
        return dict(found[0])
    return decode_object(body)


def decode_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises InvalidInput."""
    document = decode_json(body)
    if not isinstance(document, dict):
        raise InvalidInput(f"the body is a JSON {type(document).__name__}, expected an object")
    return document


def decode_json(body: bytes) -> Any:
    """JSON. Raises InvalidInput."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from error


def flag(request: Request, name: str) -> bool:
    """A boolean query parameter, as Kubernetes reads it."""
    return request.query_params.get(name, "").lower() in ("true", "1")


def number(request: Request, name: str) -> int | None:
    """A non-negative integer query parameter, None when absent. Raises InvalidInput."""
    text = request.query_params.get(name, "")
    if not text:
        return None
    if not text.isdecimal():
        raise InvalidInput(f"{name}: found {text!r}, expected a non-negative integer")
    return int(text)


def _too_large() -> TooLarge:
    return TooLarge(
        f"Request entity too large: limit is {MAX_BODY_BYTES}",
        hint="keep large data in files or a volume, not in an object",
    )
