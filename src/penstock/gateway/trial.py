"""One worker's trial of a routing profile: what became of its requests and the other profile's, until it is seen to be worse."""

from __future__ import annotations

from bisect import bisect_left

from penstock.contracts.exchange import LATENCY_BOUNDS_S
from penstock.decide.profile_trial import judged, verdict
from penstock.resources.rollout import RevisionCounts, RolloutStatus

LOOK_AFTER = 20
"""Answers under the candidate, between two looks."""


class _Seen:
    """Answers under one profile since the last look."""

    def __init__(self) -> None:
        self.requests = self.failures = 0
        self.first_byte = [0] * (len(LATENCY_BOUNDS_S) + 1)

    def take(self) -> RevisionCounts:
        counts = RevisionCounts(requests=self.requests, failures=self.failures, ttft=tuple(self.first_byte))
        self.requests = self.failures = 0
        self.first_byte = [0] * len(self.first_byte)
        return counts


class Trial:
    """`verdict` says why the candidate is withdrawn, "" while it is not. Each worker comes to its own."""

    def __init__(self) -> None:
        """Nothing has been seen."""
        self.verdict = ""
        self._status = RolloutStatus()
        self._proven, self._tried = _Seen(), _Seen()

    def ended(self, *, is_tried: bool, failed: bool, first_byte_s: float) -> bool:
        """One was routed by the candidate, or the other profile. Whether the candidate is withdrawn for it."""
        if self.verdict:
            return False
        seen = self._tried if is_tried else self._proven
        seen.requests += 1
        seen.failures += failed
        if not failed:
            seen.first_byte[bisect_left(LATENCY_BOUNDS_S, first_byte_s)] += 1
        if self._tried.requests < LOOK_AFTER:
            return False
        self._status = judged(self._status, self._proven.take(), self._tried.take())
        self.verdict = verdict(self._status)
        return bool(self.verdict)
