"""What a node's cache says about the caches of other nodes: a small file, readable by this user alone."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import msgspec
from msgspec import Struct

PEERS = "peers.json"
"""In the cache's folder."""


class Peer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where other caches are asked, and the token that opens them. `authorities` is a PEM file; none: those of the system."""

    url: str
    token: str
    authorities: str = ""


class Peers(Struct, frozen=True, kw_only=True):
    """In the order in which they are asked."""

    peers: tuple[Peer, ...] = ()

    def encoded(self) -> bytes:
        """As it is written."""
        return msgspec.json.encode(self)


class Opening(NamedTuple):
    """Where a host hands its models to other hosts: with the token alone, at most `bytes_per_s` together, over TLS where there is a certificate.

    `certificate` and `key` are PEM files.
    """

    host: str
    port: int
    token: str
    bytes_per_s: float
    certificate: str = ""
    key: str = ""


def token_of(secret: str) -> str:
    """What hosts with one secret show each other, rather than the secret itself."""
    return blake2b(secret.encode(), digest_size=32, person=b"penstock.models").hexdigest()
