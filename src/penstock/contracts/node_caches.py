"""The model caches of the nodes that this process answers for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec
from msgspec import Struct

ROOM = "PENSTOCK_MODEL_ROOM_BYTES"
"""In the environment of a fetcher: a model that is larger is refused before its first byte is asked for."""


PROGRESS = "penstock.dev/download-progress"
"""Annotation of a LocalModelNode: a JSON object of model → `Download`, for models that are on their way or could not be brought."""


class Download(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """How far a model is: `told` in words; `bytes_total` and `eta_seconds` are None while nobody knows; `attempt` counts tries; `reason` is of the last
    that failed."""

    told: str = ""
    bytes_done: int = 0
    bytes_total: int | None = None
    bytes_per_second: float = 0.0
    eta_seconds: float | None = None
    attempt: int = 1
    reason: str = ""


class CachedModel(Struct, frozen=True, kw_only=True):
    """A model on a node, and how far it is while it comes, or why it failed."""

    is_ready: bool = False
    download: Download = Download()


def downloads_of(annotations: Mapping[str, str]) -> dict[str, Download]:
    """By model (`name` or `namespace/name`); nothing where the annotation is not ours."""
    try:
        return msgspec.json.decode(annotations.get(PROGRESS, "{}"), type=dict[str, Download])
    except msgspec.DecodeError:
        return {}


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
