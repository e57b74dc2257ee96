"""The one interface that everything is written against: objects that can be read, watched and written.

Two things stand behind it: the embedded host (one machine) and a Kubernetes API server. Semantics are Kubernetes':
optimistic concurrency by `metadata.resourceVersion`, generations, finalizers, owner garbage collection, subresources.
Every method raises from `penstock.kit.errors`: NotFound, AlreadyExists, Conflict, Expired, Invalid, Unavailable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from penstock.resources.meta import Resource

R = TypeVar("R", bound=Resource)
Propagation = Literal["Background", "Foreground", "Orphan"]
Subresource = Literal["", "status", "scale"]
ChangeType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class Listing(Generic[R]):
    """Objects at one instant. Watching from `resource_version` misses nothing and repeats nothing."""

    items: tuple[R, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Change(Generic[R]):
    """One step of a watch. A DELETED change carries the object's last state."""

    type: ChangeType
    object: R


@dataclass(frozen=True, slots=True)
class Preconditions:
    """A delete goes through only if these still hold; None means "do not care"."""

    uid: str | None = None
    resource_version: str | None = None


class Cluster(Protocol):
    """Where objects live. `namespace` is "" for kinds without one, and None in a list or watch means all of them.

    `labels` and `fields` are selectors as kubectl takes them: `app=x,tier in (a,b),!old` and `metadata.name=x`.
    """

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """One object, or NotFound."""
        ...

    async def list(
        self,
        kind: type[R],
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        owner: str = "",
    ) -> Listing[R]:
        """All that match, ordered by namespace and name; `owner` is the controlling owner's uid, "" for any."""
        ...

    def watch(
        self,
        kind: type[R],
        namespace: str | None = None,
        *,
        since: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[Change[R]]:
        """Every change after `since`, for ever. Raises Expired when `since` is older than the kept history."""
        ...

    async def create(self, obj: R, *, dry_run: bool = False) -> R:
        """The object as stored, with defaults, uid and resourceVersion. AlreadyExists if the name is taken."""
        ...

    async def replace(self, obj: R, *, subresource: Subresource = "", dry_run: bool = False) -> R:
        """The whole object, or its status alone. Conflict unless its resourceVersion is current or empty."""
        ...

    async def patch(
        self,
        kind: type[R],
        name: str,
        namespace: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        subresource: Subresource = "",
        dry_run: bool = False,
    ) -> R:
        """A JSON merge patch (RFC 7386) if `patch` is a mapping, a JSON patch (RFC 6902) if it is a sequence."""
        ...

    async def delete(
        self,
        kind: type[R],
        name: str,
        namespace: str = "",
        *,
        propagation: Propagation = "Background",
        grace_period_s: int | None = None,
        preconditions: Preconditions | None = None,
    ) -> None:
        """Mark for deletion; the object goes when its finalizers (and a pod's processes) are gone."""
        ...
