"""Starts simulated engines for tests."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from free_ports import free_port
from plain_http import PATIENT

START_S = 30.0


@contextmanager
def sim_process(log: Path, *options: str) -> Iterator[httpx.Client]:
    """One process, ready; ends with exit code 0 when asked to."""
    port = free_port()
    command = [sys.executable, "-m", "penstock.engine.simulated", "--model_name=sim", f"--http_port={port}"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--host=127.0.0.1", "--time-scale=20", *options], stdout=file, stderr=file
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", **PATIENT) as client:
            wait_ready(client, process, log)
            yield client
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"the engine is not ready: {log.read_text()}")
