"""`penstock simulate` as a person calls it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

TRACES = Path(__file__).parents[3] / "shared" / "traces" / "llm"
PIPE_BYTES = 65_536
"""What a pipe holds (pipe(7)): whoever writes more waits for its reader."""


def penstock(*words: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = "from penstock.cli.main import main; main()"
    command = [sys.executable, "-c", code, "simulate", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "calls.csv"
    lines = [f"2024-01-01 00:{n // 60:02d}:{n % 60:02d}.5,{200 + n},{20 + n % 50}" for n in range(600)]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(lines) + "\n")
    return path


def read(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def test_policies_are_compared_in_a_table(trace: Path) -> None:
    done = penstock(trace, "-p", "kpa", "-p", "fixed:2")
    assert done.returncode == 0, done.stderr
    head, first, second = done.stdout.splitlines()
    assert head.split()[:4] == ["TRACE", "POLICY", "REQUESTS", "FAILED"]
    assert first.split()[:4] == ["calls", "kpa", "600", "0"]
    assert second.split()[:2] == ["calls", "fixed:2"]


def test_json_is_the_same_to_the_byte_for_a_seed_and_has_everything(trace: Path) -> None:
    words = (trace, "-p", "gpu:target=2", "--scale", "0.5", "--services", "3", "--json")
    once, again, other = penstock(*words), penstock(*words), penstock(*words, "--seed", "1")
    assert once.stdout == again.stdout != other.stdout
    [result] = read(once)
    assert result["requests"] == result["answered"] + sum(result["failed"].values())
    assert {"ttft_s", "latency_s", "attainment", "replica_seconds", "cost", "scale_events", "course"} <= set(
        result
    )


def test_a_slice_is_played_alone(trace: Path) -> None:
    [result] = read(penstock(trace, "-p", "fixed:1", "--from", "1m", "--to", "2m", "--skip", "30s", "--json"))
    assert result["requests"] == 30


def test_scale_events_are_listed_with_reasons(trace: Path) -> None:
    done = penstock(trace, "-p", "fixed:3", "--events")
    assert "1 -> 3" in done.stdout
    assert "3 replicas, whatever happens" in done.stdout


def test_each_trace_has_its_plot(trace: Path, tmp_path: Path) -> None:
    second = tmp_path / "more.csv"
    second.write_bytes(trace.read_bytes())
    done = penstock(trace, second, "-p", "fixed:1", "--plot", tmp_path / "out.svg")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("*.svg")} == {"out-calls.svg", "out-more.svg"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-p", "kpaa"), "did you mean kpa?"),
        (("-p", "kpa", "--engine", "llama-8b"), "expected a file"),
        (("-p", "kpa", "--slo-ttft", "soon"), "--slo-ttft: found 'soon'"),
        (("-p", "kpa", "--scale", "0"), "--scale: found 0"),
        (("-p", "kpa", "--plot", "x.pdf"), "expected a name that ends in .svg or .png"),
        (("-p", "fixed:1", "--plot", "no/such/folder.svg"), "cannot write"),
        (("-p", "kpa", "--from", "3h"), "the trace takes"),
        (("-p", "kpa", "--min-replicas", "3", "--max-replicas", "2"), "--min-replicas"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(trace: Path, words: tuple[str, ...], said: str) -> None:
    done = penstock(trace, *words)
    assert done.returncode not in (0, 1), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_trace_is_told(tmp_path: Path) -> None:
    done = penstock(tmp_path / "none.csv", "-p", "kpa")
    assert done.returncode == 3
    assert "found no file" in done.stderr


@pytest.mark.parametrize("buffering", ({}, {"PYTHONUNBUFFERED": "1"}))
def test_whoever_reads_slowly_gets_everything_also_when_the_writer_was_stopped(
    trace: Path, buffering: dict[str, str]
) -> None:
    policies = ("-p", "kpa", "-p", "hpa", "-p", "keda", "-p", "fixed:2", "-p", "fixed:3")
    code = "from penstock.cli.main import main; main()"
    command = [sys.executable, "-c", code, "simulate", str(trace), *policies, "--json"]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=plain | buffering) as writer:
        assert writer.stdout is not None
        held = bytearray(4)
        while int.from_bytes(held, sys.byteorder) < PIPE_BYTES:
            assert writer.poll() is None, "it ended before the pipe was full"
            time.sleep(0.01)
            fcntl.ioctl(writer.stdout, termios.FIONREAD, held)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            writer.send_signal(number)
            time.sleep(0.05)
        results = json.loads(writer.stdout.read())
    assert (len(results), writer.returncode) == (5, 0)


def test_a_published_trace_is_played() -> None:
    if not TRACES.is_dir():
        pytest.skip("../shared is absent")
    words = (
        TRACES / "azure2023_conv_to1850.csv",
        "-p",
        "kpa",
        "-p",
        "hpa",
        "-p",
        "keda",
        "--to",
        "3m",
        "--json",
    )
    results = read(penstock(*words))
    assert [result["policy"] for result in results] == ["kpa", "hpa", "keda"]
    assert len({result["requests"] for result in results}) == 1
    assert all(result["answered"] == result["requests"] > 100 for result in results)
