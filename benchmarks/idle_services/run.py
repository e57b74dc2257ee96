"""What do a thousand services cost while nobody asks, and how soon is one of them placed when somebody does?

Starts `penstock up` on an empty data folder, applies services that sleep from the beginning (`initial-scale: 0`) with one `penstock
apply`, and takes the time until each has its revision and says so; then memory and CPU of the control plane and the gateway over an
idle while, and how long `penstock get isvc` takes; then, for several services in turn, the time from a request at the gateway until the service's pod has a node, and until
the answer's first byte. Prints a table and one RESULT line, and writes `benchmarks/results/idle_services.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from benchmarks.report import Target, conclude
from benchmarks.startup.run import cpu_s, families, free_port, memory_mb

from penstock.app.quickstart import model_folder

TARGETS = {"placed_ms_p50": 250.0, "idle_core_percent": 5.0, "planes_memory_mb": 600.0, "listed_s": 2.0}
WITHIN_S = 300.0
CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "config-autoscaler", "namespace": "knative-serving"},
    "data": {"allow-zero-initial-scale": "true"},
}
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "knative-serving"}}


def service(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": f"idle-{number:04d}",
            "namespace": "default",
            "annotations": {"autoscaling.knative.dev/initial-scale": "0"},
        },
        "spec": {
            "predictor": {
                "minReplicas": 0,
                "model": {"modelFormat": {"name": "huggingface"}, "storageUri": model_folder().as_uri()},
            }
        },
    }


class Machine:
    """One `penstock up`, and ways to ask it."""

    def __init__(self, home: str) -> None:
        self.home = Path(home)
        self.environment = os.environ | {
            "PENSTOCK_HOME": home,
            "PENSTOCK_GATEWAY_ADDR": f"127.0.0.1:{free_port()}",
            "PENSTOCK_API_ADDR": f"127.0.0.1:{free_port()}",
            "KUBECONFIG": f"{home}/kubeconfig",
        }
        self.gateway = f"http://{self.environment['PENSTOCK_GATEWAY_ADDR']}"

    def penstock(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "penstock.cli.main", *arguments]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL)

    def api(self) -> httpx.Client:
        """Speaks to the Kubernetes-shaped API, as the kubeconfig says."""
        token = (self.home / "token").read_text().strip()
        trust = ssl.create_default_context(cafile=str(next(self.home.rglob("*.crt"), "")) or None)
        trust.check_hostname = False
        return httpx.Client(
            base_url=f"https://{self.environment['PENSTOCK_API_ADDR']}",
            headers={"Authorization": f"Bearer {token}"},
            verify=trust,
            timeout=60,
            trust_env=False,
        )


@contextmanager
def running() -> Iterator[tuple[Machine, subprocess.Popen[bytes]]]:
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as home:
        machine = Machine(home)
        up = machine.penstock("up", "--no-quickstart")
        try:
            until(lambda: httpx.get(f"{machine.gateway}/readyz", trust_env=False).status_code == 200)
            until((machine.home / "kubeconfig").exists)
            yield machine, up
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(60)


def until(holds: Any) -> float:
    """Seconds until it does."""
    began = time.monotonic()
    while time.monotonic() < began + WITHIN_S:
        try:
            if holds():
                return time.monotonic() - began
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"not within {WITHIN_S:g} s")


def apply_all(machine: Machine, count: int) -> tuple[float, float]:
    """Seconds until `penstock apply` came back, and until every service says that it is ready."""
    documents = [NAMESPACE, CONFIG, *map(service, range(count))]
    manifest = machine.home / "services.yaml"
    manifest.write_bytes(b"\n---\n".join(map(msgspec.json.encode, documents)))
    began = time.monotonic()
    if machine.penstock("apply", "-f", str(manifest)).wait(WITHIN_S):
        raise SystemExit("penstock apply failed")
    applied = time.monotonic() - began
    with machine.api() as api:
        path = "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices"
        until(lambda: sum(map(is_ready, api.get(path).json()["items"])) == count)
    return applied, time.monotonic() - began


def listing(machine: Machine) -> float:
    """Seconds that `penstock get isvc` takes, from its start to its end."""
    began = time.monotonic()
    if machine.penstock("get", "isvc").wait(WITHIN_S):
        raise SystemExit("penstock get failed")
    return time.monotonic() - began


def is_ready(document: dict[str, Any]) -> bool:
    conditions = (document.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def wake(machine: Machine, number: int) -> tuple[float, float]:
    """Seconds from the request until the service's pod has a node, and until the answer's first byte."""
    name = f"idle-{number:04d}"
    placed: list[float] = []
    with machine.api() as api:
        watch = {"watch": "1", "labelSelector": f"serving.kserve.io/inferenceservice={name}"}
        with api.stream("GET", "/api/v1/namespaces/default/pods", params=watch) as changes:
            follower = threading.Thread(target=follow, args=(changes, placed))
            follower.start()
            began = time.monotonic()
            body = {"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}
            answer = httpx.post(
                f"{machine.gateway}/v1/chat/completions", json=body, timeout=120, trust_env=False
            )
            answered = time.monotonic() - began
            follower.join(WITHIN_S)
    if answer.status_code != 200 or not placed:
        raise SystemExit(f"{name}: {answer.status_code} {answer.text[:200]}")
    return placed[0] - began, answered


def follow(changes: httpx.Response, placed: list[float]) -> None:
    """Until a pod has a node."""
    for line in changes.iter_lines():
        if json.loads(line)["object"].get("spec", {}).get("nodeName"):
            placed.append(time.monotonic())
            return


def measure(count: int, idle_s: float, wakes: int) -> dict[str, float]:
    with running() as (machine, up):
        empty = memory_mb(families(up)[0])
        applied_s, settled_s = apply_all(machine, count)
        time.sleep(5)
        planes, _ = families(up)
        before = cpu_s(planes)
        time.sleep(idle_s)
        used = cpu_s(planes) - before
        memory = memory_mb(planes)
        listed_s = listing(machine)
        waits = [wake(machine, turn * count // wakes) for turn in range(wakes)]
    placed = [1000 * first for first, _ in waits]
    return {
        "applied_s": applied_s,
        "settled_s": settled_s,
        "planes_memory_mb": memory,
        "memory_kb_per_service": 1000 * (memory - empty) / count,
        "idle_core_percent": 100 * used / idle_s,
        "listed_s": listed_s,
        "placed_ms_p50": statistics.median(placed),
        "placed_ms_max": max(placed),
        "first_byte_s_p50": statistics.median(second for _, second in waits),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--idle-s", type=float, default=30.0)
    parser.add_argument("--wakes", type=int, default=5)
    arguments = parser.parse_args()
    figures = measure(arguments.services, arguments.idle_s, arguments.wakes)
    print(f"\n{arguments.services} services that sleep")
    for name, value in figures.items():
        print(f"{name:20} {value:10.2f}")
    targets = [Target(name, figures[name], limit) for name, limit in TARGETS.items()]
    conclude("idle_services", targets, is_whole=arguments.services == 1000, figures=figures)


if __name__ == "__main__":
    main()
