"""Where servers listen and other gateways are, as settings say it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from typing import NamedTuple

from penstock.kit.errors import InvalidInput

PREFIX = "PENSTOCK_"
LEAST_SECRET_CHARACTERS = 16


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. Of names only `localhost` can be, if it means what it says."""
        try:
            if self.host != "localhost":
                return ipaddress.ip_address(self.host).is_loopback
            found = socket.getaddrinfo(self.host, None)
        except (ValueError, OSError):
            return False
        return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)


def parse_address(name: str, text: str) -> Address:
    """`HOST:PORT`, with brackets around an IPv6 host. `name` is the setting or option that says it. Raises InvalidInput."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    given = name + " " if name.startswith("-") else variable_of(name) + "="
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidInput(
            f"{name}: found {text!r}, expected HOST:PORT with a port from 1 to 65535",
            code="bad_address",
            hint=f"for example {given}127.0.0.1:8080",
        )
    return Address(host, int(port))


def check_peers(peers: Collection[Address], listen: Address | None, secret: str) -> None:
    """Nothing is bound for peers that do not sign what they say. Raises InvalidInput, which never shows the secret."""
    if bool(peers) != (listen is not None):
        given, lacking = ("peersAddr", "peers") if listen else ("peers", "peersAddr")
        raise InvalidInput(
            f"{lacking}: found nothing, expected HOST:PORT, since {given} is set",
            hint=f"set {variable_of(lacking)}",
        )
    if peers and len(secret) < LEAST_SECRET_CHARACTERS:
        raise InvalidInput(
            f"peersSecret: expected at least {LEAST_SECRET_CHARACTERS} characters, since peers is set",
            hint=f"give every gateway the same {variable_of('peersSecret')}, for example from `openssl rand -hex 32`",
        )


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + "".join(f"_{c}" if c.isupper() else c.upper() for c in name)
