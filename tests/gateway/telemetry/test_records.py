"""What is kept of a request that has ended, with each sink there or not."""

from pathlib import Path
from typing import Any

from ended import stream
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families

from penstock.gateway.telemetry.access_log import AccessLog
from penstock.gateway.telemetry.metrics import Readings, Telemetry, total
from penstock.gateway.telemetry.records import Records
from penstock.gateway.trace import Traces
from penstock.kit.clock import SystemClock


class Sink:
    """Takes spans."""

    dropped = {"buffer_full": 0, "export_failed": 0}

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def record(self, call: Any, now: float, at: float) -> None:
        self.spans.append(call)

    def close(self) -> None:
        self.spans.append(None)


def exemplars(telemetry: Telemetry) -> set[str]:
    families = open_families(total(telemetry.snapshot(Readings()), openmetrics=True))
    return {s.exemplar.labels["trace_id"] for family in families for s in family.samples if s.exemplar}


def test_every_request_is_logged_and_only_sampled_ones_are_traced(tmp_path: Path) -> None:
    telemetry, sink = Telemetry(), Sink()
    spans: Any = sink
    log = AccessLog(tmp_path / "access.log")
    records = Records(telemetry, SystemClock(), log=log, spans=spans)
    sampled, other = stream(trace=Traces(1.0).begin()), stream(trace=Traces(0.0).begin())
    records.finished(sampled, 12.0)
    records.finished(other, 12.0)
    records.close()
    assert sink.spans == [sampled, None]
    assert exemplars(telemetry) == {sampled.trace.id.decode()}
    assert len((tmp_path / "access.log").read_text().splitlines()) == 2
    assert records.lines_dropped == {"buffer_full": 0, "write_failed": 0}


def test_a_trace_that_is_exported_nowhere_is_no_exemplar() -> None:
    telemetry = Telemetry()
    records = Records(telemetry, SystemClock())
    records.finished(stream(trace=Traces(1.0).begin()), 12.0)
    records.close()
    assert exemplars(telemetry) == set()
    assert telemetry.requests.row("default", "qwen", "200") == [1]
    assert (records.lines_dropped, records.spans_dropped) == ({}, {})
