"""Our errors in the caller's own shape: OpenAI, KServe V1 and V2."""

from __future__ import annotations

import math
from typing import Any, Literal

import orjson

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.admission import DROPPED
from penstock.decide.retry_after import MOST_S, should_retry
from penstock.gateway.wire.message import Headers
from penstock.kit.errors import DeadlineExceeded, PlatformError, Unavailable

Protocol = Literal["openai", "anthropic", "ollama", "v1", "v2"]
JSON = (b"content-type", b"application/json")
DROPPED_REASON = b"x-llm-d-request-dropped-reason"

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def error_object(error: PlatformError) -> dict[str, Any]:
    """The inner object of OpenAI's error body."""
    text = f"{error.message}; {error.hint}" if error.hint else error.message
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {"message": text, "type": kind, "param": _param(error), "code": error.code}


def error_body(error: PlatformError, protocol: Protocol) -> bytes:
    """The whole body. Anthropic's clients are told by their dialect, which knows more."""
    inner = error_object(error)
    return orjson.dumps({"error": inner if protocol in ("openai", "anthropic") else inner["message"]})


def error_event(error: PlatformError) -> bytes:
    """An error inside a stream that had begun: the openai client raises APIError with it."""
    return b"data: " + orjson.dumps({"error": error_object(error)}) + b"\n\n"


def draining() -> Unavailable:
    """The gateway is about to end, and what is under way with it."""
    return Unavailable("the gateway is stopping", code="gateway_draining", hint="send the request again")


def cut_off(endpoint: str, error: Exception) -> Unavailable:
    """An answer that was passed on will not be whole."""
    return Unavailable(
        f"{endpoint} ended in the middle of the answer: {error}",
        code="upstream_cut_off",
        hint="send the request again",
    )


def late(service: ServiceRoute, timeout_s: float) -> DeadlineExceeded:
    """Nobody waits any longer."""
    return DeadlineExceeded(
        f"{service.namespace}/{service.name} did not answer within {timeout_s:g} s", code="upstream_timeout"
    )


def error_headers(error: PlatformError) -> Headers:
    """Content type, how to say who one is (RFC 9110 11.6.1), and whether and when to try again: OpenAI's clients heed all three headers."""
    headers: Headers = [JSON]
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="penstock"'))  # RFC 9110 11.6.1
    if dropped := DROPPED.get(error.code):
        headers.append((DROPPED_REASON, dropped.encode()))
    if not should_retry(error.code):
        headers.append((b"x-should-retry", b"false"))
    elif error.retry_after_s is not None:
        wait_s = min(MOST_S, error.retry_after_s)
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(wait_s))))
        headers.append((b"retry-after-ms", b"%d" % max(1, round(wait_s * 1000))))
        headers.append((b"x-should-retry", b"true"))
    return headers


def _param(error: PlatformError) -> str | None:
    return "model" if error.code in ("model_not_found", "missing_model") else None
