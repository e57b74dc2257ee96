"""How long may this request take, and what is the engine told of it?

The shorter of the service's own limit and what the caller gives, in one of three headers, first found wins:
`x-request-timeout-ms` (milliseconds), `x-envoy-expected-rq-timeout-ms` (what an Envoy in front sets) and `grpc-timeout` (gRPC over
HTTP/2 specification: up to eight digits and a unit). The engine is told what is left in the same header. Clients' own read timeouts
(`x-stainless-read-timeout`) limit the silence between bytes, not the whole, and are no deadline.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

HEADERS = (b"x-request-timeout-ms", b"x-envoy-expected-rq-timeout-ms", b"grpc-timeout")
UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
MAX_DIGITS = 8


class Deadline(Struct, frozen=True, gc=False):
    """`timeout_s` from the request's start; `header` is the one in which the caller gave a time, b"" where none did.

    `is_callers` says that it is shorter than the service's own: to miss it says nothing about the engine.
    """

    timeout_s: float
    header: bytes = b""
    is_callers: bool = False

    def remaining_s(self, elapsed_s: float) -> float:
        """What is left; 0 when it is over."""
        return max(0.0, self.timeout_s - elapsed_s)

    def told(self, elapsed_s: float) -> tuple[bytes, bytes] | None:
        """The header for the engine; None where the caller gave none."""
        if not self.header:
            return None
        left_ms = int(self.remaining_s(elapsed_s) * 1000)
        if self.header == b"grpc-timeout":
            exact = left_ms < 10**MAX_DIGITS
            return self.header, (b"%dm" % left_ms if exact else b"%dS" % (left_ms // 1000))
        return self.header, b"%d" % left_ms


def deadline(headers: Iterable[tuple[bytes, bytes]], service_timeout_s: float) -> Deadline:
    """`headers` have lower-case names. A value that is not one, or is zero, is not heeded: no caller wants to fail."""
    given: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in HEADERS:
            given.setdefault(name, value)
    if not given:
        return Deadline(service_timeout_s)
    for name in HEADERS:
        timeout_s = _seconds(name, given.get(name, b"").strip())
        if timeout_s > 0.0:
            return Deadline(min(timeout_s, service_timeout_s), name, timeout_s < service_timeout_s)
    return Deadline(service_timeout_s)


def _seconds(name: bytes, value: bytes) -> float:
    digits, unit = (value[:-1], UNITS_S.get(value[-1:], 0.0)) if name == b"grpc-timeout" else (value, 1e-3)
    return int(digits) * unit if digits.isdigit() and len(digits) <= MAX_DIGITS else 0.0
