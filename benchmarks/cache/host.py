"""The platform's own part: three declared nodes in two groups, ten pods of one model, a full group, a group that is taken away."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cache.downloads import Origin

PODS = 10
WAIT_S = 300.0
SELECTOR = "serving.kserve.io/inferenceservice=ten"
NODES = {"a1": "a", "a2": "a", "b1": "b"}


@dataclass(frozen=True)
class Platform:
    """A running `penstock up` of its own."""

    home: Path
    environment: dict[str, str]

    def cli(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "penstock.cli.main", *arguments],
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )

    def apply(self, *documents: dict[str, Any]) -> str:
        """What was said where it was refused, else ""."""
        given = "\n---\n".join(json.dumps(document) for document in documents)
        done = self.cli("apply", "-f", "-", given=given)
        return done.stderr if done.returncode else ""

    def get(self, kind: str, *more: str) -> Any:
        done = self.cli("get", kind, *more, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def files(self, node: str) -> int:
        """The weight files that a node's cache holds."""
        return len(list(self.home.glob(f"nodes/{node}/cache/models/*/*/files/weights.bin")))


@contextmanager
def platform() -> Iterator[Platform]:
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", ignore_cleanup_errors=True) as folder:
        home, ports = Path(folder), [_free_port(), _free_port()]
        nodes = [
            {"name": name, "cpu": "64", "memory": "64Gi", "labels": {"pool": pool}}
            for name, pool in NODES.items()
        ]
        (home / "config.yaml").write_text(json.dumps({"nodes": nodes}))
        environment = os.environ | {
            "PENSTOCK_HOME": folder,
            "PENSTOCK_GATEWAY_ADDR": f"127.0.0.1:{ports[0]}",
            "PENSTOCK_API_ADDR": f"127.0.0.1:{ports[1]}",
        }
        up = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli.main", "up"], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            running = Platform(home, environment)
            _until(
                lambda: len(running.get("nodes").get("items", ())) >= len(NODES) + 1, "the platform's nodes"
            )
            yield running
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(60)


def group(name: str, limit_bytes: int) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": "pool", "operator": "In", "values": [name]}]}
    spec = {
        "storageLimit": str(limit_bytes),
        "persistentVolumeSpec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}},
        "persistentVolumeClaimSpec": {},
    }
    return {**_head("LocalModelNodeGroup", name), "spec": spec}


def cache(name: str, uri: str, size_bytes: int, *groups: str) -> dict[str, Any]:
    spec = {"sourceModelUri": uri, "modelSize": str(size_bytes), "nodeGroups": list(groups)}
    return {**_head("LocalModelCache", name), "spec": spec}


def measure(origin: Origin, size_bytes: int) -> dict[str, Any]:
    """Bytes that left the origin at every step, and what was said."""
    uri = origin.uri("http")
    with platform() as running:
        assert not running.apply(group("a", 3 * size_bytes // 2), group("b", 3 * size_bytes // 2), _runtime())
        start, began = origin.served_bytes(), time.monotonic()
        assert not running.apply(cache("llm", uri, size_bytes, "a", "b"), _service(uri))
        _until(lambda: _copies(running, "llm") == len(NODES), "the model on three nodes")
        cached_s, brought = time.monotonic() - began, origin.served_bytes() - start
        _until(lambda: _running(running) == PODS, "ten pods")
        pods, waiting = origin.served_bytes() - start - brought, _waiting(running)
        refused = running.apply(cache("second", f"{uri}?second", size_bytes, "b"))
        before_first_byte = origin.served_bytes() - start - brought - pods
        there = {node: running.files(node) for node in NODES}
        in_use = running.cli("delete", "localmodelcaches", "llm")
        assert not running.apply(cache("llm", uri, size_bytes, "b"))
        _until(lambda: running.files("a1") + running.files("a2") == 0, "group a's copies to go")
        left = {node: running.files(node) for node in NODES}
        return {
            "cached_s": round(cached_s, 2),
            "brought_bytes": brought,
            "pods_bytes": pods,
            "waiting": waiting,
            "refused": refused.strip(),
            "refused_bytes": before_first_byte,
            "delete_in_use": in_use.stderr.strip(),
            "there": there,
            "left": left,
        }


def _waiting(running: Platform) -> str:
    """What a pod said while its model was on the way."""
    events = running.get("events").get("items", ())
    return next((e["message"] for e in events if e.get("reason") == "WaitingForModelCache"), "")


def _copies(running: Platform, name: str) -> int:
    copies = running.get("localmodelcaches", name).get("status", {}).get("copies") or {}
    return int(copies.get("available", 0))


def _running(running: Platform) -> int:
    pods = running.get("pods", "-l", SELECTOR).get("items", ())
    return sum(pod["status"].get("phase") == "Running" for pod in pods)


def _runtime() -> dict[str, Any]:
    command = ["{python}", "-m", "http.server", "8080", "--bind", "$(POD_IP)", "--directory", "/mnt/models"]
    container = {"name": "kserve-container", "image": "x", "ports": [{"containerPort": 8080}]}
    head = _head("ClusterServingRuntime", "bench-files")
    head["metadata"]["annotations"] = {"penstock.dev/local-command": json.dumps(command)}
    formats = [{"name": "bench-files", "autoSelect": True}]
    return {**head, "spec": {"supportedModelFormats": formats, "containers": [container]}}


def _service(uri: str) -> dict[str, Any]:
    """Ten pods, all on the one node of group b."""
    head = _head("InferenceService", "ten", "serving.kserve.io/v1beta1")
    head["metadata"] |= {"namespace": "default", "annotations": {"serving.kserve.io/nodegroup": "b"}}
    model = {"modelFormat": {"name": "bench-files"}, "runtime": "bench-files", "storageUri": uri}
    predictor = {"model": model, "minReplicas": PODS, "maxReplicas": PODS}
    return {**head, "spec": {"predictor": predictor}}


def _head(kind: str, name: str, version: str = "serving.kserve.io/v1alpha1") -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {WAIT_S:g} s for {what}")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
