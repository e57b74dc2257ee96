"""Starts real engines for tests, each with a log of its own, and ends them."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from plain_http import PLAIN

TINY = Path(__file__).parents[2] / "src/penstock/models/penstock-tiny"
START_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        self.client = httpx.Client(base_url=self.url, timeout=20, **PLAIN)

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

    def metric(self, name: str) -> float:
        """The sum of a series over its labels."""
        found = re.findall(rf"^vllm:{name}(?:{{.*}})? (\S+)$", self.client.get("/metrics").text, re.M)
        assert found, f"no series vllm:{name}"
        return sum(map(float, found))

    def end(self, within_s: float = 10.0) -> int:
        """Ask it to stop, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def wait_until(true: Any, within_s: float = 5.0) -> None:
    """Polls what another process shows."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
