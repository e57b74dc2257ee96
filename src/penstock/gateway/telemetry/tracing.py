"""Spans of sampled requests, exported by OTLP over HTTP with OpenTelemetry's GenAI attributes; never what was asked or answered.

A span is built when its request has ended, and handed to OpenTelemetry's batch processor, which exports in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from penstock import __version__
from penstock.gateway.call import Call
from penstock.gateway.telemetry import names
from penstock.gateway.telemetry.outcome import error_type

MAX_PENDING = 2048
"""Spans that may wait for the collector; further ones are dropped and counted as `buffer_full`."""
MAX_PARSED_BYTES = 256 << 10
"""Of a longer request body the sampling parameters are not told: reading them would hold up the other requests."""
_OPENINFERENCE = {
    names.CHAT: "LLM",
    names.COMPLETION: "LLM",
    names.EMBEDDINGS: "EMBEDDING",
    "rerank": "RERANKER",
}


class _Parameters(Struct):
    """What a request asks for beside its content, by OpenAI's and Anthropic's names. The engine judges the types; here all are taken."""

    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    seed: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    n: Any = None


_DECODER = msgspec.json.Decoder(_Parameters)
_PARAMETERS = {
    "temperature": ("temperature", float), "top_p": ("top_p", float), "top_k": ("top_k", float), "seed": ("seed", int),
    "frequency_penalty": ("frequency_penalty", float), "presence_penalty": ("presence_penalty", float), "n": ("choice.count", int),
}  # fmt: skip
"""Member, the attribute's end after `gen_ai.request.`, and its type in the conventions."""

Attributes = dict[str, str | bool | int | float]


class Spans:
    """Exports the spans of one worker."""

    def __init__(
        self, endpoint: str, *, instance: str, headers: dict[str, str] | None = None, delay_s: float = 5.0
    ) -> None:
        """`endpoint` is the collector's whole URL, as `http://127.0.0.1:4318/v1/traces`. Spans gather for `delay_s`."""
        self._exporter = _Counting(OTLPSpanExporter(endpoint, headers=headers, timeout=10.0))
        self._batches = BatchSpanProcessor(
            self._exporter,
            max_queue_size=MAX_PENDING,
            max_export_batch_size=MAX_PENDING // 4,
            schedule_delay_millis=delay_s * 1000,
        )
        self._resource = Resource.create(
            {
                "service.name": "penstock-gateway",
                "service.version": __version__,
                "service.instance.id": instance,
            }
        )
        self._scope = InstrumentationScope("penstock.gateway", __version__)
        self._handed = 0
        self._buffer_full = 0

    @property
    def dropped(self) -> dict[str, int]:
        """Spans that were not exported, by cause."""
        return {"buffer_full": self._buffer_full, "export_failed": self._exporter.failed}

    def record(self, call: Call, now: float, at: float) -> None:
        """Export the span of a sampled call that ended at the monotonic time `now`, which is `at` in Unix seconds."""
        if self._handed - self._exporter.finished >= MAX_PENDING:
            self._buffer_full += 1
            return
        self._handed += 1
        self._batches.on_end(self._span(call, now, at))

    def close(self) -> None:
        """Export what is left. Blocks until the collector has answered, 10 s at most."""
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def _span(self, call: Call, now: float, at: float) -> ReadableSpan:
        trace, error = call.trace, error_type(call)
        flags, trace_id = TraceFlags(TraceFlags.SAMPLED), int(trace.id, 16)
        found = attributes(call)
        parent = (
            SpanContext(trace_id, int(trace.parent, 16), is_remote=True, trace_flags=flags)
            if trace.parent
            else None
        )
        return ReadableSpan(
            name=f"{found['gen_ai.operation.name']} {found.get('gen_ai.request.model', '')}".strip(),
            context=SpanContext(trace_id, int(trace.span, 16), is_remote=False, trace_flags=flags),
            parent=parent,
            resource=self._resource,
            attributes=found,
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.ERROR, error) if error else Status(StatusCode.UNSET),
            start_time=int((at - (now - call.started)) * 1e9),
            end_time=int(at * 1e9),
            instrumentation_scope=self._scope,
        )


def attributes(call: Call) -> Attributes:
    """What a span tells of a call: OpenTelemetry's GenAI attributes, OpenInference's kind, and where it went."""
    operation = names.operation(call.target.path, call.target.protocol)
    found: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": names.PROVIDER,
        "gen_ai.request.stream": call.streams,
        "http.request.method": call.request.head.method.decode("latin-1"),
        "http.response.status_code": call.respond.status,
        "penstock.request_id": call.id,
        "penstock.attempts": call.attempts,
    }
    service = call.service
    if service is not None:
        found["gen_ai.request.model"] = call.model or f"{service.namespace}/{service.name}"
        found["gen_ai.response.model"] = service.engine_model
        found["penstock.service"] = f"{service.namespace}/{service.name}"
    if operation in _OPENINFERENCE:
        found["openinference.span.kind"] = _OPENINFERENCE[operation]
    if call.streams and call.first_byte_at:
        found["gen_ai.response.time_to_first_chunk"] = call.first_byte_at - call.started
    for name, value in (
        ("error.type", error_type(call)),
        ("gen_ai.request.max_tokens", call.max_tokens),
        ("penstock.revision", call.revision),
        ("penstock.endpoint", call.endpoint),
    ):
        if value:
            found[name] = value
    for name, count in (
        ("input_tokens", call.prompt_tokens),
        ("output_tokens", call.completion_tokens),
        ("cache_read.input_tokens", call.cached_tokens),
    ):
        if count >= 0:
            found[f"gen_ai.usage.{name}"] = count
    return {**found, **_parameters(call.request.body)}


def _parameters(body: bytes) -> Attributes:
    """The sampling parameters of a JSON body; of anything else, none."""
    if len(body) > MAX_PARSED_BYTES or not body.startswith(b"{"):
        return {}
    try:
        asked = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    found: Attributes = {}
    for member, (name, kind) in _PARAMETERS.items():
        value = getattr(asked, member)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63:
            found[f"gen_ai.request.{name}"] = kind(value)
    return found


class _Counting(SpanExporter):
    """Counts what the collector took; both numbers are written by the exporting thread alone."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.finished = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Of a batch all are taken or none."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                self.failed += len(spans)
            self.finished += len(spans)
        return result

    def shutdown(self) -> None:
        """No more batches come."""
        self._exporter.shutdown()
