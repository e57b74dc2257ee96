"""Errors and outcomes as Kubernetes' `metav1.Status`."""

from __future__ import annotations

import math
import re
from typing import Any

import orjson
from starlette.responses import Response

from penstock.host.api.target import Target
from penstock.kit.errors import (
    Cause,
    Exhausted,
    Forbidden,
    Internal,
    Invalid,
    PlatformError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)

SAY_HINT = (Unauthorized, Forbidden, Exhausted, Internal, Unavailable, TooLarge, UnsupportedMedia)
"""Errors whose hint is part of the message; the others are worded exactly as Kubernetes words them."""

NAMED = re.compile(r'^\S+ "([^"]+)" is invalid')


def status_of(error: PlatformError, target: Target | None = None) -> dict[str, Any]:
    """The Status document of an error about `target`."""
    message = error.message
    if error.hint and isinstance(error, SAY_HINT):
        message = f"{message}; {error.hint}"
    details: dict[str, Any] = {}
    if target is not None:
        named = NAMED.match(error.message)
        details["name"] = target.name or (named[1] if named else error.about)
        details["group"] = target.kind.group
        details["kind"] = target.kind.kind if isinstance(error, Invalid) else target.kind.plural
    causes = error.causes
    if isinstance(error, Invalid) and not causes:
        causes = (Cause("", error.message),)  # kubectl prints the causes of an Invalid, not its message
    if causes:
        details["causes"] = [
            {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes
        ]
    if error.retry_after_s is not None:
        details["retryAfterSeconds"] = math.ceil(error.retry_after_s)
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": error.reason,
        "details": {field: value for field, value in details.items() if value != ""},
        "code": error.status,
    }


def error_response(error: PlatformError, target: Target | None = None) -> Response:
    """The Status as a response, with Retry-After and WWW-Authenticate where they belong."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="penstock"'
    return json_response(status_of(error, target), error.status, headers)


def success(target: Target, name: str, uid: str) -> dict[str, Any]:
    """What a finished delete answers."""
    details = {"name": name, "group": target.kind.group, "kind": target.kind.plural, "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {field: value for field, value in details.items() if value},
    }


def json_response(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Any document; bytes are taken as JSON already."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return Response(body, status, headers, media_type="application/json")
