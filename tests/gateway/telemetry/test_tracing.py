"""A collector that decodes what it is sent finds the span of each sampled request, and nothing that was said."""

import gzip
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread
from typing import Any

import pytest
from ended import call, stream
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penstock.gateway.telemetry import tracing
from penstock.gateway.telemetry.tracing import MAX_PARSED_BYTES, Spans, attributes
from penstock.gateway.trace import Traces

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Collector(HTTPServer):
    """Takes OTLP over HTTP on loopback."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Any] = []
        self.resource: dict[str, Any] = {}
        self.status = 200
        self.may_answer = Event()
        self.may_answer.set()
        self.url = f"http://127.0.0.1:{self.server_port}/v1/traces"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        message = ExportTraceServiceRequest.FromString(body)
        server.may_answer.wait(30)
        if server.status == 200:
            for group in message.resource_spans:
                server.resource = values(group.resource.attributes)
                server.spans += [span for scope in group.scope_spans for span in scope.spans]
        self.send_response(server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def values(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.may_answer.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_sampled_stream_is_told_with_the_attributes_of_the_conventions(collector: Collector) -> None:
    spans = Spans(collector.url, instance="gateway-0", delay_s=0.01)
    body = b'{"model":"qwen","messages":[{"role":"user","content":"private"}],"temperature":0.5,"top_p":1,"seed":7,"n":2}'
    one = stream(
        trace=Traces().begin(PARENT), model="qwen", max_tokens=64, endpoint="qwen-1-a", attempts=1, body=body
    )
    spans.record(one, now=12.0, at=1_700_000_002.0)
    spans.close()
    (span,) = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (PARENT[3:35].decode(), PARENT[36:52].decode())
    assert span.span_id.hex() == one.trace.span.decode()
    assert (span.name, span.kind) == ("chat qwen", span.SPAN_KIND_CLIENT)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (
        1_700_000_000 * 10**9,
        1_700_000_002 * 10**9,
    )
    assert span.status.code == span.status.STATUS_CODE_UNSET
    found = values(span.attributes)
    assert found.pop("gen_ai.response.time_to_first_chunk") == pytest.approx(0.3)
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "penstock",
        "gen_ai.request.model": "qwen",
        "gen_ai.response.model": "qwen2",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 16,
        "openinference.span.kind": "LLM",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "penstock.request_id": "r1",
        "penstock.service": "default/qwen",
        "penstock.endpoint": "qwen-1-a",
        "penstock.attempts": 1,
    }
    assert collector.resource["service.name"] == "penstock-gateway"
    assert collector.resource["service.instance.id"] == "gateway-0"
    assert spans.dropped == {"buffer_full": 0, "export_failed": 0}


def test_a_failed_request_is_an_error_with_its_type(collector: Collector) -> None:
    spans = Spans(collector.url, instance="gateway-0", delay_s=0.01)
    spans.record(call(503, error="no_endpoint_answered", trace=Traces(1.0).begin()), 12.0, 1e9)
    spans.record(call(404, error="model_not_found", service=None, trace=Traces(1.0).begin()), 12.0, 1e9)
    spans.close()
    first, second = collector.spans
    assert first.status.code == first.status.STATUS_CODE_ERROR
    assert values(first.attributes)["error.type"] == "no_endpoint_answered"
    assert first.parent_span_id == b""
    assert second.name == "chat"


def test_spans_beyond_the_bound_are_dropped_and_counted(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "MAX_PENDING", 4)
    collector.may_answer.clear()
    spans = Spans(collector.url, instance="gateway-0", delay_s=0.01)
    for _ in range(10):
        spans.record(stream(trace=Traces(1.0).begin()), 12.0, 1e9)
    collector.may_answer.set()
    spans.close()
    assert len(collector.spans) == 4
    assert spans.dropped == {"buffer_full": 6, "export_failed": 0}


def test_spans_that_the_collector_refuses_are_counted(collector: Collector) -> None:
    collector.status = 400
    spans = Spans(collector.url, instance="gateway-0", delay_s=0.01)
    spans.record(stream(trace=Traces(1.0).begin()), 12.0, 1e9)
    spans.close()
    assert spans.dropped == {"buffer_full": 0, "export_failed": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff{}",
        b"[1]",
        b'{"temperature":1e400}',
        b'{"temperature":"hot","top_p":true,"seed":null,"n":[1]}',
        b'{"seed":1e300}',
        b'{"seed":1}'.ljust(MAX_PARSED_BYTES + 1),
    ],
)
def test_a_body_that_is_odd_or_long_tells_no_parameters(body: bytes) -> None:
    told = {name for name in attributes(call(body=body)) if name.startswith("gen_ai.request.")}
    assert told == {"gen_ai.request.model", "gen_ai.request.stream"}


def test_there_is_room_again_when_the_collector_has_answered(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "MAX_PENDING", 4)
    spans = Spans(collector.url, instance="gateway-0", delay_s=0.01)
    for _ in range(4):
        spans.record(stream(trace=Traces(1.0).begin()), 12.0, 1e9)
    spans._batches.force_flush()
    spans.record(stream(trace=Traces(1.0).begin()), 12.0, 1e9)
    spans.close()
    assert len(collector.spans) == 5
    assert spans.dropped["buffer_full"] == 0
