"""What a simulation leaves behind: every request's times, and when replicas came and went."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import NamedTuple

from penstock.testing.sim.engine import Request
from penstock.testing.sim.policy import Finished
from penstock.testing.sim.replica import Replica

ANSWERED, HELD_TOO_LONG, DOES_NOT_FIT = "answered", "held too long", "does not fit the engine's memory"


class ScaleEvent(NamedTuple):
    """The law changed its mind."""

    at: float
    service: str
    before: int
    after: int
    reasons: str


class Recorder:
    """Requests that arrived before `measure_from_s` are not recorded, and replicas count from then on only."""

    def __init__(self, measure_from_s: float) -> None:
        self.measure_from_s = measure_from_s
        self.arrived_at, self.ttft_s, self.latency_s, self.held_s = (array("d") for _ in range(4))
        self.prompt_tokens = self.output_tokens = 0
        self.outcomes: Counter[str] = Counter()
        self.failed_at = array("d")
        self.scale_events: list[ScaleEvent] = []
        self.changes: list[tuple[float, int, int]] = []
        self.replica_s = self.gpu_s = 0.0
        self.cold_starts = 0
        self.end_s = measure_from_s

    def answered(self, request: Request, finished: Finished) -> None:
        """One request ended well."""
        if request.arrived_at < self.measure_from_s:
            return
        self.outcomes[ANSWERED] += 1
        self.arrived_at.append(request.arrived_at)
        self.ttft_s.append(finished.ttft_s)
        self.latency_s.append(finished.latency_s)
        self.held_s.append(finished.held_s)
        self.prompt_tokens += finished.prompt_tokens
        self.output_tokens += finished.output_tokens

    def failed(self, request: Request, why: str) -> None:
        """One request ended without an answer."""
        if request.arrived_at >= self.measure_from_s:
            self.outcomes[why] += 1
            self.failed_at.append(request.arrived_at)

    def scaled(self, event: ScaleEvent) -> None:
        """The law wants another number than before."""
        if event.at >= self.measure_from_s:
            self.scale_events.append(event)

    def changed(self, now: float, asked: int, ready: int) -> None:
        """By how much the number of replicas asked for, and of those ready, changed."""
        self.changes.append((now, asked, ready))

    def gone(self, replica: Replica, now: float) -> None:
        """A replica ended, or the simulation did."""
        since = self.measure_from_s
        self.replica_s += max(0.0, now - max(replica.asked_at, since))
        if replica.placed_at <= now:
            self.gpu_s += replica.profile.gpus * max(0.0, now - max(replica.placed_at, since))
        if replica.ready_at != replica.asked_at and replica.ready_at >= since and replica.ready_at <= now:
            self.cold_starts += 1
