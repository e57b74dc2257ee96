"""`penstock bench` as a person calls it, against simulated engines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from free_ports import free_port
from plain_http import PATIENT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
START_S = 30.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL."""
    port = free_port()
    options = ("--model_name=sim", f"--http_port={port}", "--host=127.0.0.1", "--time-scale=20")
    log = tmp_path_factory.mktemp("engine") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock.engine.simulated", *options], stdout=file, stderr=file
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_S
        while not is_ready(url):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", **PATIENT).status_code == 200
    except httpx.TransportError:
        return False


def bench(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock.cli.main", "bench", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=100, env=os.environ | environment
    )


def test_a_load_by_the_clock_is_shown_as_tables_and_kept_as_json_and_plot(
    engine: str, tmp_path: Path
) -> None:
    kept, plot = tmp_path / "run.json", tmp_path / "run.svg"
    done = bench(
        *("sim", "--url", engine, "-w", "shared-prefix:groups=4,prompts=8,prefix=512,own=64,output=16"),
        *("--rate", "20", "--duration", "3s", "--repeats", "2", "--slo-ttft", "1s"),
        *("--json", kept, "--plot", plot),
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert {"ttft", "itl", "e2e", "goodput", "cache"} <= set(words)
    report: dict[str, Any] = json.loads(kept.read_text())
    [result] = report["results"]
    assert result["model"] == "sim"
    assert len(result["repeats"]) == 2
    whole = result["whole"]
    assert whole["requests"] == whole["answered"] == pytest.approx(120, rel=0.4)
    assert whole["output_tokens"] == 16 * whole["answered"]
    assert whole["prompt_tokens"] / whole["answered"] == pytest.approx(576, rel=0.1)
    assert 0.4 < whole["cached_share"] < 0.9, "28 of each 32 prompts find their prefix"
    assert whole["late_s"]["p50"] < 10.0
    assert "polyline" in plot.read_text()


def test_two_servers_are_compared(engine: str, tmp_path: Path) -> None:
    kept = tmp_path / "run.json"
    done = bench(
        *("sim", "--url", engine, "--against", engine, "--json", kept),
        *("-w", "random:prompt=64,output=8", "--concurrency", "4", "--requests", "40", "--repeats", "2"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(kept.read_text())
    assert len(report["results"]) == 2
    assert {"ttft p50", "output tokens/s"} <= {one["figure"] for one in report["ratios"]}
    assert "FIRST : SECOND" in done.stdout


def test_the_knee_is_searched(engine: str) -> None:
    done = bench(
        *("sim", "--url", engine, "-w", "random:prompt=64,output=4", "--find-knee", "--rate", "4"),
        *("--duration", "2s", "--max-steps", "2", "--slo-ttft", "40s"),
    )
    assert done.returncode == 0, done.stderr
    assert "the knee is at 8.000 a second or above" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("sin",), 3, "did you mean sim"),
        (("sim", "-w", "randm"), 5, "did you mean random"),
        (("sim", "--rate", "1", "--concurrency", "2"), 5, "expected one of them"),
        (("sim", "--find-knee"), 5, "expected --slo-ttft or --slo-itl"),
        (("sim", "--duration", "x"), 5, "--duration"),
        (("sim", "--plot", "x.jpg"), 5, "--plot"),
        (("sim", "--json", "no-such-folder/x.json"), 5, "--json"),
        (("sim", "-w", "trace:none.jsonl"), 3, "found no file"),
        (("sim", "--api-key-file", "none"), 3, "--api-key-file"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_can(
    engine: str, words: tuple[str, ...], code: int, said: str
) -> None:
    done = bench(*words, "--url", engine)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_down_is_said_with_how_to_start_it() -> None:
    done = bench("sim", "--url", "http://127.0.0.1:9")
    assert done.returncode == 4
    assert "penstock up" in done.stderr


def interrupted(engine: str, answers: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Ctrl-C once the engine has answered so many requests more."""
    command = [sys.executable, "-m", "penstock.cli.main", "bench", "sim", "--url", engine, *map(str, words)]
    wanted = answered(engine) + answers
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and answered(engine) < wanted:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=40)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def answered(engine: str) -> float:
    text = httpx.get(f"{engine}/metrics", **PATIENT).text
    return sum(
        float(value) for value in re.findall(r"^vllm:request_success_total\S* (\S+)$", text, re.MULTILINE)
    )


def test_ctrl_c_shows_what_was_measured_by_then(engine: str, tmp_path: Path) -> None:
    kept, plot = tmp_path / "run.json", tmp_path / "run.svg"
    done = interrupted(
        *(engine, 40, "-w", "random:prompt=64,output=4", "--rate", "20"),
        *("--duration", "60s", "--json", kept, "--plot", plot),
    )
    assert done.returncode == 130
    assert "stopped early" in done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads(kept.read_text())
    assert report["is_partial"]
    [result] = report["results"]
    assert result["whole"]["requests"] == result["whole"]["answered"] > 10
    assert 2 < result["whole"]["requests_per_s"] < 40, (
        "by the time that it took; by the 60 s it would be one or less"
    )
    assert "ttft ms" in done.stdout
    assert "polyline" in plot.read_text()


def test_ratios_of_a_bench_that_was_stopped_are_of_whole_pairs(engine: str, tmp_path: Path) -> None:
    kept = tmp_path / "run.json"
    done = interrupted(
        *(engine, 100, "--against", engine, "--json", kept, "-w", "random:prompt=64,output=4"),
        *("--concurrency", "2", "--requests", "10", "--repeats", "1000"),
    )
    assert done.returncode == 130
    report = json.loads(kept.read_text())
    assert len(report["results"]) == 2
    runs = [len(one["repeats"]) for one in report["results"]]
    assert abs(runs[0] - runs[1]) <= 1
    assert 1 <= min(runs) < 1000
    assert report["ratios"]


def test_a_second_bench_does_not_find_the_first_ones_prompts_in_caches(engine: str, tmp_path: Path) -> None:
    words = ("sim", "--url", engine, "-w", "random:prompt=512,output=2", "--requests", "10")
    shares = []
    for number, seed in enumerate(((), (), ("--seed", "7"), ("--seed", "7"))):
        kept = tmp_path / f"{number}.json"
        assert bench(*words, *seed, "--concurrency", "2", "--json", kept).returncode == 0
        [result] = json.loads(kept.read_text())["results"]
        shares.append(result["whole"]["cached_share"])
    assert shares[1] < 0.1
    assert shares[3] > 0.9
