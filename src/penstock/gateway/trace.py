"""W3C Trace Context: which trace a request belongs to, and under which span an engine shall put its own.

https://www.w3.org/TR/trace-context/. Sampling follows the caller's mark where there is one; of new traces a share is sampled, told by
the low half of the trace id as OpenTelemetry's TraceIdRatioBased does, so that all parts of a system agree.
"""

from __future__ import annotations

import re
from random import Random, SystemRandom

from msgspec import Struct

from penstock.gateway.wire.message import Headers

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
MAX_STATE_BYTES = 512
"""A longer `tracestate` is dropped whole, as the recommendation allows."""

_PARENT = re.compile(
    rb"(?!ff|00.{53}.)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
_STATE = re.compile(rb"[ -~\t]*")
_LOW = 2**64 - 1


class Trace(Struct, gc=False):
    """The part of a trace that is this gateway's. Ids are lower-case hex; `parent` is the caller's span, b"" where the trace begins here.

    `traceparent` is for the engine: our span is its parent. `tracestate` is passed on as it came.
    """

    traceparent: bytes
    sampled: bool
    parent: bytes = b""
    tracestate: bytes = b""

    @property
    def id(self) -> bytes:
        """32 digits."""
        return self.traceparent[3:35]

    @property
    def span(self) -> bytes:
        """16 digits."""
        return self.traceparent[36:52]

    @property
    def headers(self) -> Headers:
        """For the engine."""
        if self.tracestate:
            return [(TRACEPARENT, self.traceparent), (TRACESTATE, self.tracestate)]
        return [(TRACEPARENT, self.traceparent)]


class Traces:
    """Begins the trace of each request, or goes on with the caller's."""

    def __init__(self, ratio: float = 0.0, *, random: Random | None = None) -> None:
        """`ratio` of new traces are sampled, 0 to 1. `random` is for tests; ids need to be distinct, not secret."""
        self._bound = round(ratio * 2**64)
        self._bits = (random or Random(SystemRandom().getrandbits(128))).getrandbits  # noqa: S311

    def begin(self, traceparent: bytes = b"", tracestate: bytes = b"") -> Trace:
        """Of a request with these headers; a malformed one counts as none, and its state goes with it."""
        found = _PARENT.fullmatch(traceparent) if traceparent else None
        if found is not None:
            return self._go_on(found, tracestate)
        bits = self._bits(192)
        sampled = (bits >> 64) & _LOW < self._bound
        return Trace(b"00-%032x-%016x-0%d" % (bits >> 64, bits & _LOW, sampled), sampled)

    def _go_on(self, found: re.Match[bytes], tracestate: bytes) -> Trace:
        trace, parent, flags = found.groups()
        sampled = int(flags, 16) & 1 == 1
        state = tracestate if len(tracestate) <= MAX_STATE_BYTES and _STATE.fullmatch(tracestate) else b""
        own = b"00-%b-%016x-0%d" % (trace, self._bits(64) or 1, sampled)
        return Trace(own, sampled, parent, state)
