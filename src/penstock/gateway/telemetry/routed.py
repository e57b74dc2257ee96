"""What is counted of a request that a router sent, when it has ended: why it went where it went, and how right the index was.

By routing profile, so that one that is being tried can be compared with the one that it is to replace.
"""

from __future__ import annotations

from bisect import bisect_left

from penstock.decide.routing import Route
from penstock.gateway.call import Call
from penstock.gateway.telemetry import names
from penstock.gateway.telemetry.metrics import Telemetry
from penstock.gateway.telemetry.outcome import outcome_of
from penstock.gateway.trail import Trail

MAX_CACHED = 4096
"""Label sets whose rows are kept at hand; beyond that they are looked up anew, and nothing counted is lost."""
BUILT_IN = "built-in"
"""The built-in profile's name in metrics."""

_Key = tuple[str, str, str, str]


class RoutedMeter:
    """Counts routed requests of one worker."""

    def __init__(self, telemetry: Telemetry) -> None:
        """Counts into `telemetry`."""
        self._telemetry = telemetry
        self._rows: dict[_Key, _Rows] = {}

    def finished(self, call: Call, trail: Trail, route: Route) -> None:
        """It has ended, however it ended. `route` is the trail's; one that no router sent is not counted."""
        service = call.service
        if service is None or trail.prompt is None:
            return
        key = (service.namespace, service.name, trail.profile, route.prompt_class)
        rows = self._rows.get(key)
        if rows is None:
            rows = self._kept(key)
        reason = trail.reason
        row = rows.reasons.get(reason)
        if row is None:
            row = rows.reasons[reason] = self._telemetry.routed.row(*rows.labels, reason)
        row[0] += 1
        outcome = outcome_of(call)
        row = rows.outcomes.get(outcome)
        if row is None:
            row = rows.outcomes[outcome] = self._telemetry.routed_outcomes.row(*rows.labels, outcome)
        row[0] += 1
        if outcome == "ok" and call.first_byte_at:
            waited_s = call.first_byte_at - call.started
            rows.first_byte[bisect_left(names.FIRST_TOKEN_S, waited_s)] += 1
            rows.first_byte[-1] += waited_s
        if call.cached_tokens >= 0 and trail.trip is not None:
            self._tokens(rows, call, trail, route, trail.trip.cached_tokens)

    def _tokens(self, rows: _Rows, call: Call, trail: Trail, route: Route, predicted: float) -> None:
        cached = call.cached_tokens
        rows.prompt[0] += max(call.prompt_tokens, 0)
        rows.predicted[0] += predicted
        rows.cached[0] += cached
        rows.agreed[0] += min(predicted, cached)
        rows.forgone[0] += max(trail.most_held - route.cached_tokens, 0.0)

    def _kept(self, key: _Key) -> _Rows:
        if len(self._rows) >= MAX_CACHED:
            self._rows.clear()
        found = self._rows[key] = _Rows(key, self._telemetry)
        return found


class _Rows:
    """The rows of one service, profile and class."""

    __slots__ = (
        "agreed",
        "cached",
        "first_byte",
        "forgone",
        "labels",
        "outcomes",
        "predicted",
        "prompt",
        "reasons",
    )

    def __init__(self, key: _Key, telemetry: Telemetry) -> None:
        namespace, service, profile, prompt_class = key
        self.labels = (namespace, service, profile or BUILT_IN, prompt_class)
        self.reasons: dict[str, list[float]] = {}
        self.outcomes: dict[str, list[float]] = {}
        self.first_byte = telemetry.routed_first_byte.row(*self.labels)
        tokens = telemetry.routed_tokens
        self.prompt, self.predicted = (
            tokens.row(*self.labels, "prompt"),
            tokens.row(*self.labels, "predicted"),
        )
        self.cached, self.agreed = tokens.row(*self.labels, "cached"), tokens.row(*self.labels, "agreed")
        self.forgone = tokens.row(*self.labels, "forgone")
