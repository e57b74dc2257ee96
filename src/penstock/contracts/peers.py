"""What a node's cache says about the caches of other nodes: a small file, readable by this user alone."""

from __future__ import annotations

import msgspec
from msgspec import Struct

PEERS = "peers.json"
"""In the cache's folder."""


class Peers(Struct, frozen=True, kw_only=True):
    """Addresses of other nodes' caches, and the token that opens them."""

    token: str
    peers: tuple[str, ...] = ()

    def encoded(self) -> bytes:
        """As it is written."""
        return msgspec.json.encode(self)
