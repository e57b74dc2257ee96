"""`penstock up` with one service that sleeps when nobody asks: how it wakes, by what its own records say."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from benchmarks.startup.run import free_port
from benchmarks.wake.chat import Timed, first_token

from penstock.app.quickstart import model_folder

Object = dict[str, Any]
NAME = "sleeper"
WINDOW = "6s"
LIMIT_S = 60.0
OBJECTS: list[Object] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "knative-serving"}},
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "config-autoscaler", "namespace": "knative-serving"},
        "data": {"scale-to-zero-grace-period": "1s", "allow-zero-initial-scale": "true"},
    },
    {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": NAME,
            "namespace": "default",
            "annotations": {
                "autoscaling.knative.dev/window": WINDOW,
                "autoscaling.knative.dev/initial-scale": "0",
            },
        },
        "spec": {
            "predictor": {
                "minReplicas": 0,
                "model": {"modelFormat": {"name": "huggingface"}, "storageUri": model_folder().as_uri()},
            }
        },
    },
]
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
PODS = "/api/v1/namespaces/default/pods"
PENSTOCK = (sys.executable, "-m", "penstock.cli.main")
INITIALIZER, MAIN = "storage-initializer", "kserve-container"


@dataclass(frozen=True)
class Engine:
    """What the pod runs."""

    command: list[str]
    environment: dict[str, str]
    model: str


class Platform:
    """Running within its block."""

    def __init__(self, home: Path) -> None:
        self._home = home
        gateway, api = free_port(), free_port()
        self._environment = os.environ | {
            "PENSTOCK_HOME": str(home),
            "PENSTOCK_GATEWAY_ADDR": f"127.0.0.1:{gateway}",
            "PENSTOCK_API_ADDR": f"127.0.0.1:{api}",
            "KUBECONFIG": str(home / "kubeconfig"),
        }
        self.gateway_url = f"http://127.0.0.1:{gateway}"
        self._gateway = httpx.Client(base_url=self.gateway_url, timeout=LIMIT_S, trust_env=False)
        self._api_url = f"https://127.0.0.1:{api}"

    def __enter__(self) -> Platform:
        self._up = subprocess.Popen(
            [*PENSTOCK, "up", "--no-quickstart"], env=self._environment, stdout=subprocess.DEVNULL
        )
        until("the gateway is ready", self._is_serving)
        self._api = self._client()
        self.apply(*OBJECTS)
        until("the service is routed", lambda: self._all(DEPLOYMENTS))
        return self

    def __exit__(self, *_: object) -> None:
        self._up.send_signal(signal.SIGINT)
        self._up.wait(LIMIT_S)

    def apply(self, *objects: Object) -> None:
        """With `penstock apply`."""
        manifest = "\n---\n".join(map(json.dumps, objects))
        command = [*PENSTOCK, "apply", "-f", "-"]
        subprocess.run(
            command, env=self._environment, input=manifest, text=True, check=True, stdout=subprocess.DEVNULL
        )

    def knows(self, name: str) -> bool:
        """Whether the gateway routes a service of this name."""
        return name in self._gateway.get("/v1/models").text

    def address(self, service: str) -> str:
        """Of its one pod."""
        selector = {"labelSelector": f"serving.kserve.io/inferenceservice={service}"}
        [pod] = self._api.get(PODS, params=selector).json()["items"]
        return str(pod["status"]["podIP"])

    def sleep(self) -> None:
        """Once nothing of it runs any more."""
        until("it sleeps", lambda: not self._all(PODS))
        time.sleep(1.0)

    def wake(self) -> Timed:
        """From a request to its first token, by parts."""
        with self._seen(DEPLOYMENTS, is_up) as deployments, self._seen(PODS, is_bound) as pods:
            began = time.time()
            token = first_token(self._gateway, NAME)
        resized, bound = first(deployments, is_up), first(pods, is_bound)
        folder = self._pod_folder()
        fetching, fetched = times(folder / "containers" / INITIALIZER / "0" / "exit")[2:4]
        started = times(folder / "containers" / MAIN / "0" / "pid")[4]
        return Timed.between(
            {
                "poke, autoscaler: deployment resized": resized,
                "replica set, placement: pod bound": bound,
                "kubelet: address, volumes": fetching,
                "initializer": fetched,
                "kubelet: engine runs": started,
                "engine: exec to serving": serving(folder / "containers" / MAIN / "0" / "log"),
                "gateway's probe, first token": token,
            },
            began,
        )

    def engine(self) -> Engine:
        """As it runs at this moment, but for its model's folder, which goes with the pod."""
        pid = int(times(self._pod_folder() / "containers" / MAIN / "0" / "pid")[2])
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
        pairs = (word.partition("=") for word in Path(f"/proc/{pid}/environ").read_text().split("\0")[:-1])
        folder = f"--model_dir={model_folder()}"
        command = [folder if word.startswith("--model_dir=") else word for word in words]
        return Engine(command, {name: value for name, _, value in pairs}, NAME)

    def _is_serving(self) -> bool:
        try:
            return self._gateway.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _all(self, path: str) -> list[Object]:
        items: list[Object] = self._api.get(path).json()["items"]
        return items

    def _pod_folder(self) -> Path:
        [folder] = self._home.glob("nodes/*/pods/*/")
        return folder

    @contextmanager
    def _seen(self, path: str, last: Callable[[Object], bool]) -> Iterator[list[tuple[float, Object]]]:
        """What a watch that begins now tells, each with its Unix time, until something is as `last` says; whole after the block."""
        seen: list[tuple[float, Object]] = []
        watching = threading.Event()
        version = self._api.get(path).json()["metadata"]["resourceVersion"]

        def follow() -> None:
            query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": f"{LIMIT_S:g}"}
            with self._client() as api, api.stream("GET", path, params=query) as answer:
                watching.set()
                for line in answer.iter_lines():
                    seen.append((time.time(), json.loads(line)["object"]))
                    if last(seen[-1][1]):
                        return

        follower = threading.Thread(target=follow)
        follower.start()
        watching.wait(LIMIT_S)
        yield seen
        follower.join(LIMIT_S)

    def _client(self) -> httpx.Client:
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        headers = {"Authorization": f"Bearer {(self._home / 'token').read_text().strip()}"}
        return httpx.Client(
            base_url=self._api_url, headers=headers, verify=unverified, timeout=LIMIT_S, trust_env=False
        )


def is_up(deployment: Object) -> bool:
    return bool(deployment["spec"]["replicas"])


def is_bound(pod: Object) -> bool:
    return bool(pod["spec"].get("nodeName"))


def first(seen: list[tuple[float, Object]], true: Callable[[Object], bool]) -> float:
    """When something was so for the first time."""
    return next(at for at, found in seen if true(found))


def times(record: Path) -> list[float]:
    """What the shim has written down."""
    return [float(word) for word in record.read_text().split()]


def serving(log: Path) -> float:
    """When the engine said that it serves."""
    [stamp] = re.findall(r"^(\S+)Z .*\bserving .* after ", log.read_text(), re.M)
    return datetime.fromisoformat(f"{stamp[:26]}+00:00").timestamp()


def until(what: str, true: Callable[[], object]) -> None:
    """Ask again and again."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {LIMIT_S:g} s: {what}")
        time.sleep(0.1)
