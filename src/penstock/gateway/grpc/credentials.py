"""The certificate of a gRPC port, read anew when its files change."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from penstock.gateway.listen import stamped
from penstock.kit.errors import InvalidInput


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
