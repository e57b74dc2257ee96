"""How long until the first token, and what does the platform cost while nobody asks?

Starts `penstock up` on an empty data folder and free ports, several times; takes the time until the gateway answers
`/readyz`, until the first token of a streamed chat, then the CPU and memory of the control plane and the gateway
over an idle minute. Prints a table and one RESULT line, and writes `benchmarks/results/startup.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

import httpx
import psutil
from benchmarks.report import Target, conclude

TARGETS = {"ready_s": 3.0, "first_token_s": 10.0, "idle_core_percent": 2.0, "planes_memory_mb": 250.0}


@dataclass(frozen=True)
class Sample:
    """One start: seconds from exec, percent of one core, and resident megabytes (shared pages counted once)."""

    ready_s: float
    first_token_s: float
    idle_core_percent: float
    planes_memory_mb: float
    engine_memory_mb: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_token(client: httpx.Client) -> bool:
    """Whether a streamed chat brought its first content; False while the service is still unknown."""
    body = {
        "model": "quickstart",
        "stream": True,
        "messages": [{"role": "user", "content": "What is Penstock?"}],
    }
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            return False
        for line in answer.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                return True
    return False


def wait_for(client: httpx.Client, up: subprocess.Popen[bytes], deadline: float) -> tuple[float, float]:
    """Times (monotonic) at which the gateway was ready and at which the first token came."""
    ready = 0.0
    while time.monotonic() < deadline:
        if up.poll() is not None:
            raise SystemExit(f"penstock up ended with {up.returncode} before it was ready")
        try:
            if not ready and client.get("/readyz").status_code == 200:
                ready = time.monotonic()
            if ready and first_token(client):
                return ready, time.monotonic()
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise SystemExit("no first token within the time limit")


def families(up: subprocess.Popen[bytes]) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The processes of the two planes (with the supervisor), and all others that came with them."""
    everyone = [psutil.Process(up.pid), *psutil.Process(up.pid).children(recursive=True)]
    shims = [p for p in psutil.process_iter(["cmdline"]) if "shim.py" in " ".join(p.info["cmdline"] or ())]
    engines = {p.pid: p for shim in shims for p in [shim, *shim.children(recursive=True)]}
    planes = [p for p in everyone if p.pid not in engines]
    return planes, list(engines.values())


def memory_mb(processes: list[psutil.Process]) -> float:
    return float(sum(p.memory_full_info().pss for p in processes)) / 1e6


def cpu_s(processes: list[psutil.Process]) -> float:
    return float(sum(sum(p.cpu_times()[:2]) for p in processes))


def sample(idle_s: float) -> Sample:
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as home:
        gateway, api = free_port(), free_port()
        environment = os.environ | {
            "PENSTOCK_HOME": home,
            "PENSTOCK_GATEWAY_ADDR": f"127.0.0.1:{gateway}",
            "PENSTOCK_API_ADDR": f"127.0.0.1:{api}",
        }
        started = time.monotonic()
        up = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli.main", "up"], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{gateway}", timeout=30, trust_env=False) as client:
                ready, token = wait_for(client, up, started + 60)
            time.sleep(2)
            planes, engines = families(up)
            before = cpu_s(planes) + cpu_s(engines)
            time.sleep(idle_s)
            used = cpu_s(planes) + cpu_s(engines) - before
            return Sample(
                ready - started, token - started, 100 * used / idle_s, memory_mb(planes), memory_mb(engines)
            )
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--idle-s", type=float, default=30.0)
    arguments = parser.parse_args()
    samples = []
    for turn in range(arguments.repeats):
        samples.append(asdict(sample(arguments.idle_s)))
        print(f"run {turn + 1}: " + "  ".join(f"{k} {v:.2f}" for k, v in samples[-1].items()), flush=True)
    print(f"\n{'figure':20} {'min':>8} {'median':>8} {'max':>8} {'target':>8}")
    targets = []
    for name in samples[0]:
        values = [one[name] for one in samples]
        median, target = statistics.median(values), TARGETS.get(name)
        shown = f"{target:8.2f}" if target else f"{'-':>8}"
        print(f"{name:20} {min(values):8.2f} {median:8.2f} {max(values):8.2f} {shown}")
        if target:
            targets.append(Target(name, median, target))
    conclude("startup", targets, samples=samples)


if __name__ == "__main__":
    main()
