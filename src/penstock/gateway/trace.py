"""W3C Trace Context: which trace a request belongs to, and under which span an engine shall put its own.

https://www.w3.org/TR/trace-context/. Sampling follows the caller's mark where there is one; of new traces a share is sampled, told by
the low half of the trace id as OpenTelemetry's TraceIdRatioBased does, so that all parts of a system agree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random, SystemRandom

from penstock.gateway.wire.message import Headers

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
MAX_STATE_BYTES = 512
"""A longer `tracestate` is dropped whole, as the recommendation allows."""

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_STATE = re.compile(rb"[ -~\t]*")
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16


@dataclass(frozen=True, slots=True)
class Trace:
    """The part of a trace that is this gateway's. Ids are lower-case hex; `parent` is b"" where the trace begins here."""

    id: bytes
    span: bytes
    sampled: bool
    parent: bytes = b""
    state: bytes = b""

    @property
    def headers(self) -> Headers:
        """For the engine: our span is its parent."""
        parent = b"00-%s-%s-0%d" % (self.id, self.span, self.sampled)
        return [(TRACEPARENT, parent), (TRACESTATE, self.state)] if self.state else [(TRACEPARENT, parent)]


class Traces:
    """Begins or goes on with the trace of each request."""

    def __init__(self, ratio: float = 0.0, *, random: Random | None = None) -> None:
        """`ratio` of new traces are sampled, 0 to 1. `random` is for tests; ids need to be distinct, not secret."""
        self._bound = round(ratio * 2**64)
        self._bits = (random or Random(SystemRandom().getrandbits(128))).getrandbits  # noqa: S311

    def begin(self, traceparent: bytes = b"", tracestate: bytes = b"") -> Trace:
        """Of a request with these headers; a malformed one counts as none, and its state goes with it."""
        if traceparent:
            found = _PARENT.fullmatch(traceparent)
            if found is not None:
                version, trace, parent, flags, more = found.groups()
                if not (
                    version == b"ff"
                    or trace == _NO_TRACE
                    or parent == _NO_SPAN
                    or (more and version == b"00")
                ):
                    state = (
                        tracestate
                        if len(tracestate) <= MAX_STATE_BYTES and _STATE.fullmatch(tracestate)
                        else b""
                    )
                    return Trace(
                        trace, b"%016x" % (self._bits(64) or 1), int(flags, 16) & 1 == 1, parent, state
                    )
        bits = self._bits(192)
        ids = b"%048x" % bits
        return Trace(ids[:32], ids[32:], (bits >> 64) & 0xFFFFFFFFFFFFFFFF < self._bound)
