"""gRPC's metadata and statuses, and how they correspond to HTTP's headers and to our errors.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md and doc/statuscodes.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from grpc import StatusCode

from penstock.gateway import access
from penstock.gateway.errors import JSON, error_headers, error_object
from penstock.gateway.reading import REQUEST_ID
from penstock.gateway.trace import TRACEPARENT, TRACESTATE
from penstock.gateway.wire.message import HOP_BY_HOP, Headers
from penstock.kit.errors import PlatformError

Metadata = tuple[tuple[str, str | bytes], ...]
"""Keys in lower case; those that end in `-bin` have bytes as values."""
MODEL = b"x-penstock-model"
"""Names the service where the message does not, or where it names another model."""
_OURS = HOP_BY_HOP | {
    REQUEST_ID, TRACEPARENT, TRACESTATE, MODEL, b"user-agent", b"content-type", b"host", b"x-forwarded-for", b"forwarded",
}  # fmt: skip
_BINARY = b"-bin"
_STATUS = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    413: StatusCode.RESOURCE_EXHAUSTED,
    429: StatusCode.RESOURCE_EXHAUSTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
_NOT_OFFERED = ("unknown_path", "no_grpc")
_HTTP = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.ABORTED: 409,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}
"""As Google's APIs map them (google/rpc/code.proto); what is not here is 500."""


def headers(metadata: Iterable[tuple[str, str | bytes]]) -> Headers:
    """As HTTP has them, for those who read them there."""
    return [(key.encode(), value if isinstance(value, bytes) else value.encode()) for key, value in metadata]


def onward(given: Headers) -> Metadata:
    """What goes on to the other side: neither what was for the gateway, nor gRPC's own, nor a key of ours."""
    return tuple(
        _item(name, value)
        for name, value in given
        if name not in _OURS
        and not name.startswith((b":", b"grpc-"))
        and not (name in access.CREDENTIALS and access.carries_key(name, value))
    )


def own(given: Headers) -> Metadata:
    """The gateway's own headers as metadata."""
    return tuple(_item(name, value) for name, value in given)


def status_of(error: PlatformError) -> tuple[StatusCode, str, Metadata]:
    """Code, message and trailing metadata for one of our errors; the message is the one that callers over HTTP get."""
    code = _STATUS.get(error.status, StatusCode.INTERNAL)
    if error.code in _NOT_OFFERED:
        code = StatusCode.UNIMPLEMENTED
    return code, str(error_object(error)["message"]), own([h for h in error_headers(error) if h != JSON])


def http_status(code: StatusCode) -> int:
    """What HTTP would say, for metrics and logs."""
    return _HTTP.get(code, 500)


def _item(name: bytes, value: bytes) -> tuple[str, str | bytes]:
    return name.decode("latin-1"), value if name.endswith(_BINARY) else value.decode("latin-1")
