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

_Key = tuple[str, str, str, str, str, str]


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
        outcome = outcome_of(call)
        key = (service.namespace, service.name, trail.profile, route.prompt_class, trail.reason, outcome)
        rows = self._rows.get(key)
        if rows is None:
            rows = self._kept(key)
        rows.reason[0] += 1
        rows.outcome[0] += 1
        if outcome == "ok" and call.first_byte_at:
            waited_s = call.first_byte_at - call.started
            row = rows.first_byte
            row[bisect_left(names.FIRST_TOKEN_S, waited_s)] += 1
            row[-1] += waited_s
        cached = call.cached_tokens
        if cached >= 0 and trail.trip is not None:
            predicted, forgone = trail.trip.cached_tokens, trail.most_held - route.cached_tokens
            rows.prompt[0] += max(call.prompt_tokens, 0)
            rows.predicted[0] += predicted
            rows.cached[0] += cached
            rows.agreed[0] += predicted if predicted < cached else cached
            if forgone > 0.0:
                rows.forgone[0] += forgone

    def _kept(self, key: _Key) -> _Rows:
        if len(self._rows) >= MAX_CACHED:
            self._rows.clear()
        found = self._rows[key] = _Rows(key, self._telemetry)
        return found


class _Rows:
    """The rows of one service, profile, class, reason and outcome."""

    __slots__ = ("agreed", "cached", "first_byte", "forgone", "outcome", "predicted", "prompt", "reason")

    def __init__(self, key: _Key, telemetry: Telemetry) -> None:
        namespace, service, profile, prompt_class, reason, outcome = key
        labels = (namespace, service, profile or BUILT_IN, prompt_class)
        self.reason = telemetry.routed.row(*labels, reason)
        self.outcome = telemetry.routed_outcomes.row(*labels, outcome)
        self.first_byte = telemetry.routed_first_byte.row(*labels)
        tokens = telemetry.routed_tokens
        self.prompt, self.predicted = tokens.row(*labels, "prompt"), tokens.row(*labels, "predicted")
        self.cached, self.agreed = tokens.row(*labels, "cached"), tokens.row(*labels, "agreed")
        self.forgone = tokens.row(*labels, "forgone")
