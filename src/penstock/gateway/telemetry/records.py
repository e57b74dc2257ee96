"""What is kept of a request that has ended: counts always, how it was routed if a router did that, a line of the access log if there is one,
a span if it was sampled.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from penstock.gateway.call import Call
from penstock.gateway.explained import EXPLAINED, Explained
from penstock.gateway.peers import Peers
from penstock.gateway.recording import RECORDED, Recordings
from penstock.gateway.telemetry.access_log import AccessLog, line
from penstock.gateway.telemetry.meter import Meter
from penstock.gateway.telemetry.metrics import Telemetry
from penstock.gateway.telemetry.outcome import outcome_of
from penstock.gateway.telemetry.routed import RoutedMeter
from penstock.gateway.trail import Trail
from penstock.gateway.trial import Trial
from penstock.kit.clock import Clock

if TYPE_CHECKING:
    from penstock.gateway.telemetry.tracing import Spans

SERVER_ERROR = 500
logger = logging.getLogger(__name__)


class Records:
    """The end of the pipeline, of one worker."""

    def __init__(
        self, telemetry: Telemetry, clock: Clock, *, log: AccessLog | None = None, spans: Spans | None = None
    ) -> None:
        """`spans` is given where traces are exported; its module is imported only then, for its weight."""
        self._telemetry = telemetry
        self._meter, self._routed = Meter(telemetry), RoutedMeter(telemetry)
        self.explained, self.recordings = Explained(clock), Recordings(clock)
        self._clock, self._log, self._spans = clock, log, spans

    def join(self, peers: Peers) -> None:
        """Answer what the other workers are asked about requests."""
        peers.answer_about(EXPLAINED, self.explained.answer)
        peers.answer_about(RECORDED, self.recordings.answer)

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
        trail = call.trail
        if trail is not None and trail.route is not None:
            self._routed.finished(call, trail, trail.route)
            self.explained.ended(call, trail, trail.route)
            if self.recordings.active:
                self.recordings.ended(call, trail, now)
            if trail.trial is not None:
                self._judge(call, trail, trail.trial)
        is_traced = self._spans is not None and call.trace.sampled
        if self._log is None and not is_traced:
            return
        at = self._clock.now()
        if self._log is not None:
            self._log.append(line(call, now, at))
        if self._spans is not None and is_traced:
            self._spans.record(call, now, at)
            self._meter.exemplify(call, now, call.trace.id.decode(), at)

    def _judge(self, call: Call, trail: Trail, trial: Trial) -> None:
        """Errors of callers say nothing of a profile, nor do those who went away."""
        outcome, status, service = outcome_of(call), call.respond.status, call.service
        failed = outcome == "broken" or (outcome == "error" and status >= SERVER_ERROR)
        if service is None or not (failed or (outcome == "ok" and call.first_byte_at)):
            return
        if trial.ended(
            is_tried=trail.is_tried, failed=failed, first_byte_s=call.first_byte_at - call.started
        ):
            self._telemetry.profiles_withdrawn.add(service.namespace, service.name, trail.profile)
            logger.warning(
                "%s/%s: the routing profile %s is no longer tried: %s",
                service.namespace, service.name, trail.profile, trial.verdict,
            )  # fmt: skip

    def close(self) -> None:
        """Write and export what is left. Blocks on disk and network, for 15 s at most: run it in a thread."""
        if self._log is not None:
            self._log.close()
        if self._spans is not None:
            self._spans.close()
