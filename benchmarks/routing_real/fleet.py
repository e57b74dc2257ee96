"""`penstock up` with one service of several CPU engines, and what those engines count themselves."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import psutil
import yaml
from benchmarks.gateway.measure import family, free_port
from benchmarks.routing_real.respawn import GROUP

import penstock.runtimes
from penstock.app.quickstart import model_folder

NAME = "tiny"
RUNTIME = "bench-cpu"
RESPAWN = Path(__file__).with_name("respawn.py")
LIMIT_S = 120.0
PENSTOCK = (sys.executable, "-m", "penstock.cli.main")
ENGINE_PORT = 8080
HITS, QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"


class Cached(NamedTuple):
    """Prompt tokens that were found in a cache, and those that were looked for."""

    hits: float
    queries: float


def runtime(cores: float) -> dict[str, Any]:
    """penstock-cpu, run by respawn.py."""
    document: dict[str, Any] = yaml.safe_load(
        (Path(penstock.runtimes.__path__[0]) / "penstock-cpu.yaml").read_text()
    )
    document["metadata"]["name"] = RUNTIME
    ready = f"http://$(POD_IP):{ENGINE_PORT}/health/ready"
    command = ["{python}", str(RESPAWN), str(cores), ready, "{python}", "-m", "penstock.engine"]
    document["metadata"]["annotations"]["penstock.dev/local-command"] = json.dumps(command)
    return document


class Fleet:
    """Running within its block. Every system is put before the same engines."""

    def __init__(self, home: Path, replicas: int, kv_blocks: int, cores: float) -> None:
        """Each engine has at most so many `cores`, where this machine lets that be said."""
        self._home, self._replicas, self._runtime = home, replicas, runtime(cores)
        self._log = (home.parent / "penstock.log").open("wb")
        gateway, api = free_port(), free_port()
        self._environment = os.environ | {
            "PENSTOCK_HOME": str(home),
            "PENSTOCK_GATEWAY_ADDR": f"127.0.0.1:{gateway}",
            "PENSTOCK_API_ADDR": f"127.0.0.1:{api}",
            "KUBECONFIG": str(home / "kubeconfig"),
        }
        self.url, self._api_url = f"http://127.0.0.1:{gateway}", f"https://127.0.0.1:{api}"
        self._http = httpx.Client(timeout=LIMIT_S, trust_env=False)
        self._service = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": NAME, "namespace": "default"},
            "spec": {
                "predictor": {
                    "minReplicas": replicas,
                    "maxReplicas": replicas,
                    "model": {
                        "modelFormat": {"name": "huggingface"},
                        "runtime": RUNTIME,
                        "storageUri": model_folder().as_uri(),
                        "args": [f"--kv_blocks={kv_blocks}", "--threads=1"],
                        "resources": {"limits": {"cpu": str(cores)}},
                    },
                }
            },
        }
        self.engines: list[str] = []

    def __enter__(self) -> Fleet:
        self._up = subprocess.Popen(
            [*PENSTOCK, "up", "--no-quickstart"],
            env=self._environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            until("the gateway is ready", lambda: self._answers(f"{self.url}/readyz"))
            self._apply()
            self.engines = self.wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def wait_until_ready(self) -> list[str]:
        """The URLs of all engines."""
        urls: list[str] = until(f"{self._replicas} engines are ready", self._ready)
        return urls

    def gateway(self) -> list[psutil.Process]:
        """Its workers, and what tokenizes for them."""
        below = psutil.Process(self._up.pid).children()
        return [one for child in below if "penstock.app.gateway" in child.cmdline() for one in family(child)]

    def cached(self) -> dict[str, Cached]:
        """By engine."""
        return {url: self._cached(url) for url in self.engines}

    def _cached(self, url: str) -> Cached:
        found = {HITS: 0.0, QUERIES: 0.0}
        for line in self._http.get(f"{url}/metrics").text.splitlines():
            name = line.partition("{")[0].partition(" ")[0]
            if name in found:
                found[name] += float(line.rpartition(" ")[2])
        return Cached(found[HITS], found[QUERIES])

    def kill(self, url: str) -> Cached:
        """One engine, which starts again; what it had counted till then."""
        counted = self._cached(url)
        for engine in processes(url):
            engine.kill()
        return counted

    def is_limited(self) -> bool:
        """Whether each engine has processor time of its own."""
        groups = [
            Path(f"/proc/{one.pid}/cgroup").read_text() for url in self.engines for one in processes(url)
        ]
        return bool(groups) and all(GROUP in group or "/penstock-" in group for group in groups)

    def _apply(self) -> None:
        subprocess.run(
            [*PENSTOCK, "apply", "-f", "-"],
            env=self._environment,
            input="\n---\n".join(map(json.dumps, (self._runtime, self._service))),
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _ready(self) -> list[str]:
        """Their URLs, once all are."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        headers = {"Authorization": f"Bearer {(self._home / 'token').read_text().strip()}"}
        answer = httpx.get(
            f"{self._api_url}/api/v1/namespaces/default/pods",
            headers=headers,
            verify=context,
            trust_env=False,
        )
        pods: list[dict[str, Any]] = answer.json()["items"]
        urls = [f"http://{pod['status'].get('podIP')}:{ENGINE_PORT}" for pod in pods if is_ready(pod)]
        return sorted(urls) if len(urls) == self._replicas else []

    def _answers(self, url: str) -> bool:
        if self._up.poll() is not None:
            raise SystemExit(f"penstock up ended:\n{Path(self._log.name).read_text()[-2000:]}")
        try:
            return self._http.get(url).status_code == 200
        except httpx.TransportError:
            return False

    def _stop(self) -> None:
        self._up.send_signal(signal.SIGINT)
        self._up.wait(LIMIT_S)
        self._log.close()
        self._http.close()


def processes(url: str) -> list[psutil.Process]:
    """The engine there, as respawn.py started it."""
    mark = f"--kv_events_endpoint=tcp://{urlsplit(url).hostname}:"
    return [
        engine
        for one in psutil.process_iter(["cmdline"])
        if str(RESPAWN) in (argv := one.info["cmdline"] or ())
        and any(argument.startswith(mark) for argument in argv)
        for engine in one.children()
    ]


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def until(what: str, true: Callable[[], Any]) -> Any:
    """Ask again and again; what it finally answered."""
    deadline = time.monotonic() + LIMIT_S
    while not (answer := true()):
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {LIMIT_S:g} s: {what}")
        time.sleep(0.2)
    return answer
