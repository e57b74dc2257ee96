"""`python -m penstock.app.gateway`: the process that every request goes through."""

from __future__ import annotations

import logging

from penstock.app.home import Home
from penstock.app.link import LISTEN_VARIABLE, Link, inherited
from penstock.app.process import Stop, main
from penstock.app.settings import Settings
from penstock.gateway.server import GatewaySettings, serve
from penstock.kit import logs
from penstock.kit.api_keys import ensure_pepper

logger = logging.getLogger(__name__)


async def gateway(settings: Settings, link: Link, stop: Stop) -> None:
    """Until told to stop or the supervisor is gone; running requests may finish within `drain_s`."""
    logs.configure(settings.log_level)
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
        redis_url=settings.redis_url,
        drain_s=settings.drain_s,
        listen_fd=inherited(LISTEN_VARIABLE),
    )
    await serve(chosen, stop.event, on_ready=link.ready)


if __name__ == "__main__":
    main(gateway)
