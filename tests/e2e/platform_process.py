"""`penstock up` as a process of its own, on a data folder and ports of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from free_ports import free_ports
from penstock.app.quickstart import model_folder
from plain_http import PATIENT

KUBECTL = shutil.which("kubectl")
READY_WITHIN_S = 60.0


def until(what: str, true: Callable[[], Any], within_s: float = READY_WITHIN_S) -> Any:
    """Ask again and again, for a quarter of the time at most, because what is asked needs the processors too; what it finally answered."""
    deadline = time.monotonic() + within_s
    while (asked_at := time.monotonic()) < deadline:
        if answer := true():
            return answer
        time.sleep(min(0.5, max(0.01, 3 * (time.monotonic() - asked_at))))
    pytest.fail(f"not within {within_s:g} s: {what}")


class Platform:
    """One data folder, started and killed at will."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.gateway_port, self.api_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.gateway_port}"
        self.process: subprocess.Popen[str] | None = None
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "KUBE"))},
            "PENSTOCK_HOME": str(home),
            "PENSTOCK_GATEWAY_ADDR": f"127.0.0.1:{self.gateway_port}",
            "PENSTOCK_API_ADDR": f"127.0.0.1:{self.api_port}",
            "KUBECONFIG": str(home / "kubeconfig"),
        }

    def start(self, *arguments: str) -> None:
        """Also once more, after everything was killed."""
        if self.process is not None:
            self.process.communicate(timeout=100)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli.main", "up", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        until("the gateway is ready", self.is_serving)

    def is_serving(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"penstock up ended: {self.process.stdout.read() if self.process.stdout else ''}")
        with suppress(httpx.HTTPError, OSError):
            return httpx.get(f"{self.url}/readyz", **PATIENT).status_code == 200
        return False

    def stop(self) -> str:
        """Ctrl-C; all that it said."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        said, _ = self.process.communicate(timeout=100)
        self.process, ended = None, self.process
        assert ended.returncode == 0, said
        return said

    def penstock(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-m", "penstock.cli.main", *arguments], stdin)

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        if KUBECTL is None:
            assert not os.environ.get("CI"), "kubectl must be installed in CI"
            pytest.skip("kubectl is not installed")
        done = self._run([KUBECTL, *arguments], stdin)
        assert not check or done.returncode == 0, f"kubectl {arguments}: {done.stderr}"
        return done

    def objects(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        listed = self.kubectl("get", kind, "-o", "json", *(("-l", selector) if selector else ()))
        items: list[dict[str, Any]] = json.loads(listed.stdout)["items"]
        return items

    def wait_ready(self, service: str, within_s: float = READY_WITHIN_S) -> None:
        self.kubectl("wait", "--for=condition=Ready", f"isvc/{service}", f"--timeout={within_s:g}s")

    def children(self, module: str) -> list[psutil.Process]:
        """Processes of this platform that run this Python module."""
        found = []
        for process in processes_of(self.home):
            with suppress(psutil.Error):  # it may end meanwhile
                if module in process.cmdline():
                    found.append(process)
        return found

    def plane(self, module: str) -> psutil.Process:
        """The control plane or the gateway."""

        def only() -> psutil.Process | None:
            found = self.children(module)  # one that starts a program looks like two for a moment
            return found[0] if len(found) == 1 else None

        process: psutil.Process = until(f"one {module} runs", only)
        return process

    def ask(self, model: str = "quickstart", **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "What is Penstock?"}], **fields}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, **PATIENT)

    def _run(self, command: list[str], stdin: str | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that was started with this data folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PENSTOCK_HOME") == str(home) or str(home) in " ".join(
                process.cmdline()
            ):
                found.append(process)
    return [p for p in found if p.pid != os.getpid()]


def until_nothing_is_left(home: Path) -> None:
    """What was told to end has ended when the system has come to it."""
    left: list[psutil.Process] = []

    def is_nothing_left() -> bool:
        left[:] = processes_of(home)
        return not left

    try:
        until("nothing is left behind", is_nothing_left, within_s=30)
    finally:
        for process in left:
            with suppress(psutil.Error):
                print(f"left behind: {process.cmdline()}")


def kill(processes: Iterable[psutil.Process]) -> None:
    """All of them before one sees another die; they are dead when this returns, and hold nothing any more."""
    doomed = list(dict.fromkeys(processes))
    for act in (psutil.Process.suspend, psutil.Process.kill):
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                act(process)
    until("they are dead", lambda: not any(map(is_alive, doomed)))


def is_alive(process: psutil.Process) -> bool:
    """A zombie is not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def running_platform(home: Path, *arguments: str, **environment: str) -> Iterator[Platform]:
    """Started, and afterwards gone with everything that it started."""
    platform = Platform(home)
    platform.environment |= environment
    try:
        platform.start(*arguments)
        yield platform
        if platform.process is not None and platform.process.poll() is None:
            platform.stop()
        until_nothing_is_left(home)
    finally:
        for process in processes_of(home):
            with suppress(psutil.Error):
                process.kill()
        if platform.process is not None:
            platform.process.communicate(timeout=100)


def says(what: str, platform: Platform, name: str) -> httpx.Response | None:
    """What the gateway answers for a service, once it says so: it hears of what goes wrong a little later than the API."""
    answer = platform.ask(name)
    return answer if what in answer.text else None


def service(name: str, *, replicas: int = 1, model: str = "", **predictor: Any) -> str:
    """An InferenceService over the tiny model, as JSON."""

    return json.dumps(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name},
            "spec": {
                "predictor": {
                    "minReplicas": replicas,
                    "model": {
                        "modelFormat": {"name": "huggingface"},
                        "storageUri": model or model_folder().as_uri(),
                    },
                    **predictor,
                }
            },
        }
    )
