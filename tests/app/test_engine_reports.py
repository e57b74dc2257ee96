"""Where an engine's word on its memory comes from: its log, its metrics, and NVML."""

import io
import sys
from pathlib import Path

import pytest

from file_server import file_server
from penstock.app import engine_reports
from penstock.app.engine_reports import engine_report, used_bytes
from penstock.decide.engine_report import MAX_TEXT
from penstock.kit.errors import InvalidInput, NotFound, Unavailable

LINE = b"INFO Available KV cache memory: 53.00 GiB\n"
METRICS = b'vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1.0\n'


def test_a_log_is_read_from_its_end_however_long_it_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 100 + b"\n" + b"noise\n" * (MAX_TEXT // 6) + LINE)
    assert engine_report(str(log)).cache_bytes == 53 << 30


def test_metrics_are_told_from_a_log_by_what_they_say(tmp_path: Path) -> None:
    saved = tmp_path / "metrics.txt"
    saved.write_bytes(METRICS)
    assert engine_report(str(saved)).blocks == 100
    with file_server() as server:
        server.files["/metrics"] = METRICS
        assert engine_report(server.uri("")).blocks == 100


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINE)))
    assert engine_report("-").cache_bytes == 53 << 30


def test_what_cannot_be_had_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        engine_report(str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        engine_report(str(tmp_path))
    with pytest.raises(InvalidInput, match="expected http://HOST:PORT"):
        engine_report("http://:x/metrics")
    with pytest.raises(Unavailable):
        engine_report("http://127.0.0.1:1/metrics")


def test_memory_in_use_is_a_quantity_or_what_nvml_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (used_bytes(""), used_bytes("61Gi")) == (0, 61 << 30)
    monkeypatch.setattr(engine_reports, "read_gpus", lambda: {"GPU-a": {"FB_USED": 100.0}, "GPU-b": {}})
    assert used_bytes("GPU-a") == 100 << 20
    for absent in ("GPU-b", "GPU-c"):
        with pytest.raises(NotFound, match="here are GPU-a, GPU-b"):
            used_bytes(absent)
    with pytest.raises(InvalidInput):
        used_bytes("much")
