"""What is kept of a request that has ended: counts always, a line of the access log if there is one, a span if it was sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.gateway.call import Call
from penstock.gateway.telemetry.access_log import AccessLog, line
from penstock.gateway.telemetry.meter import Meter
from penstock.gateway.telemetry.metrics import Telemetry
from penstock.kit.clock import Clock

if TYPE_CHECKING:
    from penstock.gateway.telemetry.tracing import Spans


class Records:
    """The end of the pipeline, of one worker."""

    def __init__(
        self, telemetry: Telemetry, clock: Clock, *, log: AccessLog | None = None, spans: Spans | None = None
    ) -> None:
        """`spans` is given where traces are exported; its module is imported only then, for its weight."""
        self._meter = Meter(telemetry)
        self._clock, self._log, self._spans = clock, log, spans

    @property
    def lines_dropped(self) -> dict[str, int]:
        """Lines of the access log that were not written, by cause."""
        return self._log.dropped if self._log is not None else {}

    @property
    def spans_dropped(self) -> dict[str, int]:
        """Sampled spans that were not exported, by cause."""
        return self._spans.dropped if self._spans is not None else {}

    def finished(self, call: Call, now: float) -> None:
        """The call ended at the monotonic time `now`, however it ended."""
        self._meter.finished(call, now)
        is_traced = self._spans is not None and call.trace.sampled
        if self._log is None and not is_traced:
            return
        at = self._clock.now()
        if self._log is not None:
            self._log.append(line(call, now, at))
        if self._spans is not None and is_traced:
            self._spans.record(call, now, at)
            self._meter.exemplify(call, now, call.trace.id.decode(), at)

    def close(self) -> None:
        """Write and export what is left. Blocks on disk and network, for 15 s at most: run it in a thread."""
        if self._log is not None:
            self._log.close()
        if self._spans is not None:
            self._spans.close()
