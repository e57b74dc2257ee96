"""What a gateway takes that nobody asks for anything: it reads its engines' metrics and hears what they tell of their caches."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import httpx
import psutil
from benchmarks.gateway.measure import end, free_port
from prometheus_client.parser import text_string_to_metric_families

ENDPOINTS = 100
SETTLE_S = 6.0
READY_S = 30.0
LEAST_ASKED = 0.8
"""Of the metrics that it should have read, it has to have read so many: else it was not idle but deaf."""


class Idle(NamedTuple):
    """`cores` of one, of the worker and the process that tokenizes for it. Rates are of all endpoints."""

    cores: float
    memory_mb: float
    polls_per_s: float
    events_per_s: float
    page_bytes: int

    @property
    def told(self) -> str:
        """For the table."""
        return (
            f"idle, {ENDPOINTS} endpoints, {self.polls_per_s:.0f} pages of metrics ({self.page_bytes / 1e3:.0f} kB) and "
            f"{self.events_per_s:.0f} KV events a second: {self.cores:.3f} of a core, {self.memory_mb:.0f} MB"
        )


def idle(seconds: float) -> Idle:
    """Watch one for so long. Ends the run where it did not do what it should."""
    module = "benchmarks.routing_decision.idle"
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        engines = subprocess.Popen(
            [sys.executable, "-m", f"{module}_engines", str(ENDPOINTS)], stdout=subprocess.PIPE, text=True
        )
        assert engines.stdout is not None, "it is a pipe"
        assert engines.stdout.readline() == "ready\n", "engines are there"
        port = free_port()
        gateway = subprocess.Popen(
            [sys.executable, "-m", f"{module}_gateway", str(port), str(ENDPOINTS), folder]
        )
        try:
            began = _until_heard(port)
            time.sleep(SETTLE_S)
            before = _heard(port)
            cores, memory = _watched(gateway.pid, seconds)
            heard = _heard(port) - before
            ran_s = time.monotonic() - began
        finally:
            end(gateway)
            engines.terminate()
            said = engines.communicate(timeout=10)[0].split()
    asked, page_bytes = int(said[0]), int(said[2])
    if asked < LEAST_ASKED * ENDPOINTS * ran_s / 2:
        raise SystemExit(f"the gateway read metrics {asked} times only in {ran_s:.0f} s")
    return Idle(round(cores, 4), round(memory, 1), asked / ran_s, heard / seconds, page_bytes)


def _until_heard(port: int) -> float:
    """When the gateway trusted all that engines tell."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        began = time.monotonic()
        try:
            if sum(_values(port, "penstock_gateway_kv_index_precise").values()) == ENDPOINTS:
                return began
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the gateway did not hear all engines within {READY_S:g} s")


def _heard(port: int) -> float:
    return sum(_values(port, "penstock_gateway_kv_event_batches").values())


def _values(port: int, family: str) -> dict[tuple[str, ...], float]:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    return {
        tuple(sample.labels.values()): sample.value
        for found in text_string_to_metric_families(text)
        if found.name == family
        for sample in found.samples
    }


def _watched(pid: int, seconds: float) -> tuple[float, float]:
    """Cores of one, and MB."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    before, began = _cpu_s(processes), time.monotonic()
    time.sleep(seconds)
    cores = (_cpu_s(processes) - before) / (time.monotonic() - began)
    return cores, sum(one.memory_full_info().pss for one in processes) / 1e6


def _cpu_s(processes: list[psutil.Process]) -> float:
    return float(sum(sum(one.cpu_times()[:2]) for one in processes))
