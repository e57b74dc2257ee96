"""A gRPC port, with a certificate that is read anew when its files change."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc
from grpc import aio

from penstock.gateway.listen import stamped
from penstock.kit.errors import InvalidInput, Unavailable


def add_port(server: aio.Server, address: str, tls: tuple[Path, Path] | None, *, hint: str) -> None:
    """Have the server listen there. Raises Unavailable with `hint` if the port cannot be had, InvalidInput if the certificate cannot be used."""
    try:
        if tls is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials(*tls))
    except RuntimeError:
        raise Unavailable(
            f"{address}: cannot listen: the port is taken, or the address is not this machine's",
            code="port_taken",
            hint=hint,
        ) from None


def credentials(certificate: Path, key: Path) -> grpc.ServerCredentials:
    """Read anew for a new connection when the files have changed; what cannot be used leaves the present one in force.

    Raises InvalidInput if they cannot be used now.
    """
    stamp = stamped(certificate, key)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal stamp
        present = stamped(certificate, key)
        if present == stamp:
            return None
        stamp = present
        try:
            return _pair(certificate, key)
        except OSError:  # also ssl.SSLError; who looks for the reason finds it at the next start
            return None

    try:
        return grpc.dynamic_ssl_server_credentials(_pair(certificate, key), changed)  # type: ignore[arg-type]  # None: no change
    except OSError as error:
        raise InvalidInput(
            f"tlsCertificate {certificate} with tlsKey {key}: {error.strerror or error}",
            code="bad_certificate",
        ) from None


def _pair(certificate: Path, key: Path) -> grpc.ServerCertificateConfiguration:
    """Raises OSError if the files cannot be read, or do not belong together."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    return grpc.ssl_server_certificate_configuration([(key.read_bytes(), certificate.read_bytes())])
