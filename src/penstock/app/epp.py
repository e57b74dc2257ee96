"""The endpoint picker as a process: from words on the command line to a port that Envoy asks."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import uvloop
from msgspec import Struct
from msgspec.structs import replace

from penstock.app.addresses import Address, parse_address
from penstock.app.home import Home
from penstock.app.registry import open_profile
from penstock.app.settings import LogLevel
from penstock.contracts.exchange import Endpoint, RevisionRoute, ServiceRoute
from penstock.decide.engine_metrics import DIALECTS
from penstock.decide.routing_profile import route_of
from penstock.gateway.epp.server import EppSettings, serve
from penstock.kit import logs
from penstock.kit.errors import InvalidInput, nearest
from penstock.resources.routing import RoutingProfile

NAMESPACE, NAME = "default", "pool"
"""What endpoints from the command line are a service of."""
METRICS_PATH = "/metrics"


class Wishes(Struct, frozen=True, kw_only=True):
    """As they were written. `endpoints` (address:port) are all there is; without them the platform in `home` says what there is.

    `service` is NAMESPACE/NAME of the one that all requests are for, "" for the one that they name. `objectives` are NAME=PRIORITY
    and `profile` routes (None: the built-in one), both for `endpoints`. `fallbacks` is how many endpoints are told beside the first.
    """

    listen: str
    home: Path
    endpoints: tuple[str, ...] = ()
    service: str = ""
    objectives: tuple[str, ...] = ()
    metrics_dialect: str = "vllm"
    profile: RoutingProfile | None = None
    fallbacks: int = 2
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    drain_s: float = 10.0
    log_level: LogLevel = "info"


def run(wishes: Wishes, on_ready: Callable[[], None]) -> None:
    """Until SIGTERM or SIGINT. Raises PlatformError for what it cannot do."""
    settings = settings_of(wishes)
    logs.configure(wishes.log_level)
    uvloop.run(_run(settings, on_ready))


def settings_of(wishes: Wishes) -> EppSettings:
    """Checked. Raises InvalidInput."""
    listen = parse_address("--listen", wishes.listen)
    tls = _tls(wishes, listen)
    home = Home(wishes.home)
    return EppSettings(
        listen=listen,
        service=_pool(wishes) if wishes.endpoints else None,
        feed_socket=home.feed_socket,
        state_file=home.route_table,
        only=_service(wishes.service),
        models=home.path,
        tokenizer=(sys.executable, "-m", "penstock.engine.tokenizing"),
        fallbacks=wishes.fallbacks,
        tls=tls,
        drain_s=wishes.drain_s,
    )


def _pool(wishes: Wishes) -> ServiceRoute:
    """A service of the endpoints alone."""
    dialect = wishes.metrics_dialect
    if dialect not in DIALECTS:
        close = nearest(dialect, sorted(DIALECTS), 1)
        raise InvalidInput(
            f"--metrics-dialect: found {dialect!r}, expected one of {', '.join(sorted(DIALECTS))}",
            hint=f"did you mean {close[0]}?" if close else "",
        )
    endpoints = tuple(map(_endpoint, wishes.endpoints))
    return ServiceRoute(
        namespace=NAMESPACE,
        name=NAME,
        uid=NAME,
        engine_model="",
        protocols=("openai", "anthropic", "ollama", "v1", "v2"),
        phase="Ready",
        revisions=(RevisionRoute(name=NAME, weight_percent=100, endpoints=endpoints),),
        metrics_dialect=dialect,
        routing=replace(route_of(wishes.profile), kv_events=False),
        objectives=tuple(map(_objective, wishes.objectives)),
    )


async def _run(settings: EppSettings, on_ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop, open_profile=open_profile, on_ready=on_ready)


def _endpoint(text: str) -> Endpoint:
    host, port = parse_address("--endpoints", text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise InvalidInput(
            f"--endpoints: found {text!r}, expected an IP address with a port",
            hint="Envoy takes no names there; for example 10.0.0.7:8000",
        ) from None
    return Endpoint(name=text, address=host, port=port, metrics_port=port, metrics_path=METRICS_PATH)


def _service(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    namespace, _, name = text.rpartition("/")
    return namespace or "default", name


def _objective(text: str) -> tuple[str, int]:
    name, equals, priority = text.partition("=")
    if not (name and equals and priority.removeprefix("-").isdecimal()):
        raise InvalidInput(
            f"--objective: found {text!r}, expected NAME=PRIORITY with a whole number",
            hint="for example --objective batch=-1",
        )
    return name, int(priority)


def _tls(wishes: Wishes, listen: Address) -> tuple[Path, Path] | None:
    certificate, key = wishes.tls_certificate, wishes.tls_key
    if certificate is not None and key is not None:
        return certificate, key
    if certificate is not None or key is not None:
        raise InvalidInput("--tls-certificate and --tls-key: found one of them, expected both")
    if not listen.is_loopback:
        raise InvalidInput(
            f"--listen: {listen} can be reached by other machines, which would read all prompts",
            code="public_without_tls",
            hint="give --tls-certificate and --tls-key, or listen on 127.0.0.1 beside Envoy",
        )
    return None
