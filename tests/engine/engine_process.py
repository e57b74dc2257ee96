"""Starts real engines for tests, each with a log of its own, and ends them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from free_ports import free_port
from plain_http import PATIENT

TINY = Path(__file__).parents[2] / "src/penstock/models/penstock-tiny"
START_S = 40.0
END_S = 30.0
"""What a process gets to end, or another to show something: enough to tell a wait from a hang on a machine that stands still."""


class EngineProcess:
    """One `python -m penstock.engine`; `client` speaks to it."""

    def __init__(self, folder: Path, log: Path, cache: Path, **options: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        named = {
            "model_dir": folder,
            "model_name": "tiny",
            "host": "127.0.0.1",
            "http_port": self.port,
            "cache_dir": cache,
            "threads": 1,
        } | options
        command = [sys.executable, "-m", "penstock.engine", *(f"--{k}={v}" for k, v in named.items())]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK")}
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        self.client = httpx.Client(base_url=self.url, **PATIENT)

    def wait_ready(self) -> "EngineProcess":
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.client.get("/health/ready").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"the engine is not ready: {self.text}")

    @property
    def text(self) -> str:
        """What it said."""
        return self.log.read_text()

    def child(self) -> int:
        """The number of the pipeline's process."""
        (number,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(number)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a series over its labels, or over those that have these."""
        found = re.findall(rf"^vllm:{name}({{.*}})? (\S+)$", self.client.get("/metrics").text, re.M)
        assert found or labels, f"no series vllm:{name}"
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for told, value in found if all(one in told for one in wanted))

    def end(self, within_s: float = END_S) -> int:
        """Ask it to stop, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def wait_until(true: Any, within_s: float = END_S) -> None:
    """Polls what another process shows."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
