"""What is counted when a request has ended, however it ended. Its cost is part of every request, so rows are kept at hand."""

from __future__ import annotations

from bisect import bisect_left

from penstock.contracts.exchange import KeyRoute, ServiceRoute
from penstock.gateway.call import Call
from penstock.gateway.telemetry import names
from penstock.gateway.telemetry.metrics import Telemetry
from penstock.gateway.telemetry.outcome import error_type, outcome_of
from penstock.gateway.telemetry.series import Labels

MAX_CACHED = 4096
"""Label sets whose rows are kept at hand; beyond that they are looked up anew, and nothing counted is lost."""

_REQUEST_S, _FIRST_S, _TOKEN_S, _TOKENS = (
    names.REQUEST_S,
    names.FIRST_TOKEN_S,
    names.OUTPUT_TOKEN_S,
    names.TOKENS,
)


class Meter:
    """Counts ended requests of one worker."""

    def __init__(self, telemetry: Telemetry) -> None:
        """Counts into `telemetry`."""
        self._telemetry = telemetry
        self._rows: dict[tuple[str, str, str, str, int, str], _Rows] = {}
        self._keys: dict[str, _KeyRows] = {}

    def finished(self, call: Call, now: float) -> None:
        """The request has ended at the monotonic time `now`. One that named no service is not counted here."""
        service, respond = call.service, call.respond
        if service is None:
            return
        path = call.target.path
        operation = names.OPERATIONS.get(path) or names.operation(path, call.target.protocol)
        label = (service.namespace, service.name, service.engine_model, operation, respond.status, call.error)
        rows = self._rows.get(label)
        if rows is None:
            rows = self._kept(label, _Rows(call, service, operation, self._telemetry))
        rows.requests[0] += 1
        rows.bytes[0] += respond.sent_bytes
        taken_s = now - call.started
        row = rows.duration
        row[bisect_left(_REQUEST_S, taken_s)] += 1
        row[-1] += taken_s
        if rows.ended is not None:
            rows.ended[0] += 1
        prompt, completion = call.prompt_tokens, call.completion_tokens
        known = prompt >= 0 or completion >= 0
        if call.streams and rows.ok and call.first_byte_at:
            self._stream(call, rows, known=known)
        if known or call.key is not None:
            self._tokens(call, rows, known=known)

    def _tokens(self, call: Call, rows: _Rows, *, known: bool) -> None:
        prompt = call.prompt_tokens if call.prompt_tokens > 0 else 0
        completion = call.completion_tokens if call.completion_tokens > 0 else 0
        cached = call.cached_tokens if call.cached_tokens > 0 else 0
        if known:
            tokens = rows.tokens
            if tokens is None:
                tokens = rows.tokens = _TokenRows(rows.model, self._telemetry)
            row = tokens.input
            row[bisect_left(_TOKENS, prompt)] += 1
            row[-1] += prompt
            row = tokens.output
            row[bisect_left(_TOKENS, completion)] += 1
            row[-1] += completion
            if tokens.counters:
                for counter, count in zip(tokens.counters, (prompt, completion, cached), strict=True):
                    counter[0] += count
        if call.key is not None:
            found = self._keys.get(call.key.id) or self._key_rows(call.key)
            found.requests[0] += 1
            found.input[0] += prompt
            found.output[0] += completion
            found.cached[0] += cached

    def exemplify(self, call: Call, now: float, trace_id: str, at: float) -> None:
        """Remember the trace of a sampled request beside its times; `at` is Unix time in seconds."""
        service = call.service
        if service is None:
            return
        model = _model(service, names.operation(call.target.path, call.target.protocol))
        series = self._telemetry.histograms
        series["duration"].exemplify((*model, error_type(call)), (trace_id, now - call.started, at))
        if call.first_byte_at:
            series["first_token"].exemplify(model, (trace_id, call.first_byte_at - call.started, at))

    def _stream(self, call: Call, rows: _Rows, *, known: bool) -> None:
        """Times of a stream that came to its end."""
        streams = rows.streams
        if streams is None:
            streams = rows.streams = _StreamRows(rows, self._telemetry)
        streams.count[0] += 1
        if not known:
            streams.gaps[0] += 1
        first = call.first_byte_at
        waited_s = first - call.started
        row = streams.first_token
        row[bisect_left(_FIRST_S, waited_s)] += 1
        row[-1] += waited_s
        if call.completion_tokens > 1:
            between_s = (call.last_byte_at - first) / (call.completion_tokens - 1)
            row = streams.output_token
            row[bisect_left(_TOKEN_S, between_s)] += 1
            row[-1] += between_s

    def _kept(self, label: tuple[str, str, str, str, int, str], rows: _Rows) -> _Rows:
        if len(self._rows) >= MAX_CACHED:
            self._rows.clear()
        self._rows[label] = rows
        return rows

    def _key_rows(self, key: KeyRoute) -> _KeyRows:
        if len(self._keys) >= MAX_CACHED:
            self._keys.clear()
        found = self._keys[key.id] = _KeyRows(key, self._telemetry)
        return found


class _Rows:
    """The rows of one service, operation and outcome; those of streams and tokens only once there are any."""

    __slots__ = ("bytes", "duration", "ended", "model", "ok", "own", "requests", "streams", "tokens")

    def __init__(self, call: Call, service: ServiceRoute, operation: str, telemetry: Telemetry) -> None:
        status, outcome = call.respond.status, outcome_of(call)
        self.own, self.model = (service.namespace, service.name), _model(service, operation)
        self.ok = outcome == "ok"
        self.requests = telemetry.requests.row(*self.own, str(status or "none"))
        self.bytes = telemetry.bytes.row(*self.own)
        self.duration = telemetry.histograms["duration"].row(*self.model, error_type(call))
        ended = {"cancelled": telemetry.cancelled, "broken": telemetry.broken}.get(outcome)
        self.ended = ended.row(*self.own) if ended is not None else None
        self.streams: _StreamRows | None = None
        self.tokens = _TokenRows(self.model, telemetry) if telemetry.counters else None


class _StreamRows:
    """The rows of streams that came to their end."""

    __slots__ = ("count", "first_token", "gaps", "output_token")

    def __init__(self, rows: _Rows, telemetry: Telemetry) -> None:
        self.count = telemetry.streams.row(*rows.own)
        self.gaps = telemetry.streams_without_usage.row(*rows.own)
        self.first_token = telemetry.histograms["first_token"].row(*rows.model)
        self.output_token = telemetry.histograms["output_token"].row(*rows.model)


class _TokenRows:
    """The rows of tokens, of either generation of names; the newer has counters beside, which exist from the first call on."""

    __slots__ = ("counters", "input", "output")

    def __init__(self, model: Labels, telemetry: Telemetry) -> None:
        series = telemetry.histograms
        if "tokens" in series:
            self.input, self.output = (
                series["tokens"].row(*model, "input"),
                series["tokens"].row(*model, "output"),
            )
        else:
            self.input, self.output = series["input"].row(*model), series["output"].row(*model)
        used = ("input_used", "output_used", "cached_used")
        self.counters = [
            telemetry.counters[part].row(*model, names.MODALITY) for part in used if telemetry.counters
        ]


class _KeyRows:
    """The rows of one API key."""

    __slots__ = ("cached", "input", "output", "requests")

    def __init__(self, key: KeyRoute, telemetry: Telemetry) -> None:
        own = (key.tenant, f"{key.namespace}/{key.name}")
        self.requests = telemetry.key_requests.row(*own)
        self.input = telemetry.key_tokens.row(*own, "input")
        self.output = telemetry.key_tokens.row(*own, "output")
        self.cached = telemetry.key_tokens.row(*own, "cached")


def _model(service: ServiceRoute, operation: str) -> Labels:
    """The first labels of every GenAI metric: the model is the service, whatever alias it was asked for by."""
    return operation, names.PROVIDER, f"{service.namespace}/{service.name}", service.engine_model
