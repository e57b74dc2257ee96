"""The listening socket of a worker, and the certificates of both sides."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from penstock.kit.errors import InvalidInput, Unavailable

BACKLOG = 2048
logger = logging.getLogger(__name__)


class Certificate:
    """A certificate with its key, taken anew when the files change: connections that are made from then on see the new one."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises InvalidInput if they cannot be used."""
        self._certificate, self._key = certificate, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._stamp = stamped(certificate, key)
        try:
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                f"tlsCertificate {certificate} with tlsKey {key}: {error.strerror or error}",
                code="bad_certificate",
                hint="both are PEM files; the certificate comes first in its file, then the chain",
            ) from None

    def refresh(self) -> None:
        """Load the files again if they have changed; what cannot be used is said, and the present one stays."""
        stamp = stamped(self._certificate, self._key)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            logger.error("the changed certificate %s is not taken: %s", self._certificate, error)
        else:
            logger.info("the certificate %s is loaded anew", self._certificate)

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._certificate, self._key)


def stamped(*files: Path) -> tuple[float, ...]:
    """Changes when one of them does."""
    try:
        return tuple(path.stat().st_mtime for path in files)
    except OSError:
        return ()


def upstream_context(authorities: Path | None) -> ssl.SSLContext | None:
    """What engines that speak HTTPS are verified with; None for the system's authorities. Raises InvalidInput."""
    if authorities is None:
        return None
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"upstreamCa {authorities}: {error.strerror or error}", code="bad_certificate"
        ) from None


async def listen(
    accept: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    *,
    fd: int | None = None,
    tls: ssl.SSLContext | None = None,
) -> asyncio.Server:
    """Accept connections, on the socket `fd` if there is one. Raises Unavailable if the port cannot be had."""
    loop = asyncio.get_running_loop()
    if fd is not None:
        inherited = socket.socket(fileno=fd)
        inherited.set_inheritable(False)
        return await loop.create_server(accept, sock=inherited, backlog=BACKLOG, ssl=tls)
    try:
        return await loop.create_server(accept, host, port, backlog=BACKLOG, reuse_address=True, ssl=tls)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = (
            "the port is taken by another program" if taken else f"cannot listen: {error.strerror or error}"
        )
        raise Unavailable(
            f"{host}:{port}: {reason}",
            code="port_taken" if taken else "cannot_listen",
            hint="choose another with PENSTOCK_GATEWAY_ADDR",
        ) from None
