"""The model caches of the nodes that this process answers for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

ROOM = "PENSTOCK_MODEL_ROOM_BYTES"
"""In the environment of a fetcher: a model that is larger is refused before its first byte is asked for."""


class CachedModel(Struct, frozen=True, kw_only=True):
    """A model on a node. `told` says in words how far it is while it comes, or why it failed."""

    is_ready: bool = False
    told: str = ""


class NodeCaches(Protocol):
    """Looks at disks: every call may take a while."""

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes whose caches these are."""
        ...

    @property
    def share(self) -> bool:
        """Whether a node takes a model from another that has it; then one of them brings it, and the others wait for that one."""
        ...

    async def look(self, node: str, uri: str) -> CachedModel:
        """Where the model stands on the node."""
        ...

    async def keep(self, node: str, uris: Iterable[str]) -> tuple[str, ...]:
        """Pin these models; those that were pinned before and are no longer are removed. Then, and where the disk is getting full, room is
        made. Sentences about what was removed, and why.
        """
        ...
