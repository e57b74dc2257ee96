"""The API's own TLS certificate. client-go sends a bearer token over TLS only, on loopback too, so the API serves TLS.

One self-signed certificate per data folder, which the kubeconfig names as its authority; nothing else ever trusts it.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.host.api.private import write_private

if TYPE_CHECKING:
    from cryptography import x509

VALID_DAYS = 825
RENEW_DAYS = 30
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Where the PEM files are; the key has mode 0600."""

    certificate: Path
    key: Path


def ensure_certificate(folder: Path, *, hosts: tuple[str, ...] = (), now_s: float) -> Certificate:
    """The certificate in `folder`, made anew when there is none for these hosts or it soon expires.

    `hosts` are names or addresses besides the loopback ones under which the server may be addressed.
    """
    found = Certificate(folder / "api.crt", folder / "api.key")
    names = tuple(dict.fromkeys((*LOOPBACK, *hosts)))
    if not (found.key.exists() and _is_good(found.certificate, names, now_s)):
        _make(found, names, now_s)
    return found


def _is_good(path: Path, names: tuple[str, ...], now_s: float) -> bool:
    from cryptography import x509  # noqa: PLC0415  a heavy import that only start-up needs

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        covered = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    left_s = certificate.not_valid_after_utc.timestamp() - now_s
    return left_s > RENEW_DAYS * 86400 and set(_alternatives(names)) <= set(covered)


def _make(target: Certificate, names: tuple[str, ...], now_s: float) -> None:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "penstock")])
    now = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    write_private(target.key, key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    write_private(target.certificate, certificate.public_bytes(encoding))


def _alternatives(names: tuple[str, ...]) -> list[x509.GeneralName]:
    from cryptography import x509  # noqa: PLC0415

    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found
