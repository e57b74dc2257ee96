"""What the settings may say of other hosts, from whose model caches this one takes and to which it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from penstock.app.addresses import LEAST_SECRET_CHARACTERS, Address, parse_address
from penstock.contracts.peers import Opening, Peer, token_of
from penstock.kit.errors import InvalidInput

MAX_SECRET_BYTES = 4096
MAKE_ONE = "write one with `(umask 077; openssl rand -hex 32 > FILE)`, the same on every host"


class ModelPeers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`listen` is HOST:PORT where others may ask, `hosts` are the URLs at which others are asked; both need the file with the common secret.

    `tls_certificate` and `tls_key` are PEM files of this host, `tls_authorities` one by which the others' certificates are checked.
    """

    listen: str = ""
    hosts: tuple[str, ...] = ()
    secret_file: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_authorities: Path | None = None
    bytes_per_s: Annotated[float, Meta(gt=0)] = 1e9

    def opening(self) -> Opening | None:
        """Where this host gives; None where it does not. Raises InvalidInput: nothing is bound that strangers could use or overhear."""
        if not self.listen:
            return None
        address = parse_address("modelPeers.listen", self.listen)
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InvalidInput("modelPeers: found one of tlsCertificate and tlsKey, expected both")
        if self.tls_certificate is None and not address.is_loopback:
            raise InvalidInput(
                f"modelPeers.listen: {address} can be reached by other machines, and tlsCertificate is not set",
                code="public_without_tls",
                hint="set modelPeers.tlsCertificate and modelPeers.tlsKey",
            )
        files = [str(path) for path in (self.tls_certificate, self.tls_key) if path]
        return Opening(*address, self._token(), self.bytes_per_s, *files)

    def peers(self) -> tuple[Peer, ...]:
        """Whom this host asks. Raises InvalidInput."""
        authorities = str(self.tls_authorities) if self.tls_authorities else ""
        return tuple(
            Peer(url=_checked(url), token=self._token(), authorities=authorities) for url in self.hosts
        )

    def _token(self) -> str:
        path = self.secret_file
        if path is None:
            raise InvalidInput(
                "modelPeers.secretFile: found nothing, expected a file, since listen or hosts is set",
                code="public_without_secret",
                hint=MAKE_ONE,
            )
        try:
            if path.stat().st_mode & 0o077:
                raise InvalidInput(
                    f"modelPeers.secretFile: {path} may be read by other users", hint=f"chmod 600 {path}"
                )
            with path.open() as file:
                secret = file.read(MAX_SECRET_BYTES).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"modelPeers.secretFile: {path} cannot be read: {error}") from None
        if len(secret) < LEAST_SECRET_CHARACTERS:
            raise InvalidInput(
                f"modelPeers.secretFile: found {len(secret)} characters, expected at least {LEAST_SECRET_CHARACTERS}",
                hint=MAKE_ONE,
            )
        return token_of(secret)


def check_model_peers(settings: ModelPeers) -> None:
    """Raises InvalidInput."""
    settings.opening()
    settings.peers()


def _checked(url: str) -> str:
    """The token crosses no network in the open."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        host, port = "", 0
    if not host or not port or parts.scheme not in ("http", "https") or parts.path.strip("/") or "@" in url:
        raise InvalidInput("modelPeers.hosts: expected https://HOST:PORT, one for each other host")
    if parts.scheme == "http" and not Address(host, port).is_loopback:
        raise InvalidInput(
            f"modelPeers.hosts: {host}:{port} is another machine, expected https", code="public_without_tls"
        )
    return url.rstrip("/")
