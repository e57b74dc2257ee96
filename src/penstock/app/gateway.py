"""`python -m penstock.app.gateway`: the process that every request goes through."""

from __future__ import annotations

import gc
import logging
import os
import resource
import sys

from penstock.app.home import Home
from penstock.app.link import LISTEN_VARIABLE, Link, inherited
from penstock.app.process import Stop, main
from penstock.app.registry import open_profile
from penstock.app.settings import Settings
from penstock.gateway.far_peers import PeerAddress
from penstock.gateway.server import GatewaySettings, serve
from penstock.gateway.telemetry.names import wants_latest
from penstock.kit import logs
from penstock.kit.api_keys import ensure_pepper

logger = logging.getLogger(__name__)
OPEN_FILES = 65_536
"""More than all connections that it takes, and those to engines."""


async def gateway(settings: Settings, link: Link, stop: Stop) -> None:
    """Until told to stop or the supervisor is gone; running requests may finish within `drain_s`."""
    logs.configure(settings.log_level)
    allow_open_files()
    home = Home(settings.home)
    for warning in settings.warnings:
        logger.warning("%s", warning)
    chosen = GatewaySettings(
        host=settings.gateway.host,
        port=settings.gateway.port,
        feed_socket=home.feed_socket,
        state_file=home.route_table,
        pepper=ensure_pepper(home.pepper),
        require_keys=settings.keys_required,
        tls_certificate=settings.tls_certificate,
        tls_key=settings.tls_key,
        upstream_ca=settings.upstream_ca,
        redis_url=settings.redis_url,
        trace_sample=settings.trace_sample,
        otlp_endpoint=settings.otlp_endpoint,
        latest_names=wants_latest(os.environ),
        access_log=home.access_log if settings.access_log else None,
        access_log_max_bytes=settings.access_log_max_bytes,
        peers=home.workers,
        drain_s=settings.drain_s,
        grpc=settings.grpc,
        models=home.path,
        tokenizer=(sys.executable, "-m", "penstock.engine.tokenizing"),
        far_own=PeerAddress(*settings.peers_listen) if settings.peers_listen else None,
        far_peers=tuple(PeerAddress(*one) for one in settings.peer_addresses),
        far_secret=settings.peers_secret.encode(),
        listen_fd=inherited(LISTEN_VARIABLE),
    )
    gc.freeze()  # what is there now stays: no collection need look at it again
    await serve(chosen, stop.event, open_profile=open_profile, on_ready=link.ready)


def allow_open_files() -> None:
    """As many as a process may give itself: shells begin with some hundred, and each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wished = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wished:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wished, hard))


if __name__ == "__main__":
    main(gateway)
