"""The embedded host as a `Cluster`: typed objects over the object store.

Calls finish without waiting: the store is read and written in place (see `host/store.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from penstock.contracts.cluster import Change, Listing, Preconditions, Propagation, Subresource
from penstock.host.deletion import DeleteOptions
from penstock.host.metadata import resource_of
from penstock.host.objects import ObjectStore
from penstock.host.selection import Selection
from penstock.resources.meta import Resource
from penstock.resources.scheme import kind_of

R = TypeVar("R", bound=Resource)


class EmbeddedCluster:
    """Implements `penstock.contracts.cluster.Cluster` in this process."""

    def __init__(self, objects: ObjectStore) -> None:
        """`objects` stays usable beside it: the API serves the same store as documents."""
        self.objects = objects

    async def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """One object, or NotFound."""
        return _decode(kind, self.objects.row(kind_of(kind), namespace, name).document)

    async def list(
        self,
        kind: type[R],
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        owner: str = "",
    ) -> Listing[R]:
        """All that match, ordered by namespace and name; what an owner has is found without looking at the rest."""
        selection = Selection.parse(labels, fields)
        if owner:
            documents = self.objects.owned(kind_of(kind), namespace, owner, selection)
            version = str(self.objects.store.version)
            return Listing(tuple(_typed(kind, document) for document in documents), version)
        if not selection:
            page = self.objects.store.list(resource_of(kind_of(kind)), namespace)
            return Listing(tuple(_decode(kind, row.document) for row in page.rows), str(page.version))
        found = self.objects.list(kind_of(kind), namespace, selection=selection)
        return Listing(tuple(_typed(kind, document) for document in found.documents), found.resource_version)

    async def watch(
        self,
        kind: type[R],
        namespace: str | None = None,
        *,
        since: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[Change[R]]:
        """Every change after `since`, for ever. Raises Expired when `since` is older than the kept history."""
        selection = Selection.parse(labels, fields)
        watch = self.objects.watch(kind_of(kind), namespace, since=since, selection=selection)
        while True:
            for seen in watch.take():
                yield Change(seen.type, _decode(kind, seen.document))
            await watch.wait()

    async def create(self, obj: R, *, dry_run: bool = False) -> R:
        """The object as stored, with defaults, uid and resourceVersion. AlreadyExists if the name is taken."""
        kind = type(obj)
        stored = self.objects.create(kind_of(kind), obj.metadata.namespace, _document(obj), dry_run=dry_run)
        return _typed(kind, stored.document)

    async def replace(self, obj: R, *, subresource: Subresource = "", dry_run: bool = False) -> R:
        """The whole object, or its status alone. Conflict unless its resourceVersion is current or empty."""
        kind, meta = type(obj), obj.metadata
        if subresource == "scale":
            patch = {
                "metadata": {"resourceVersion": meta.resource_version} if meta.resource_version else {},
                "spec": {"replicas": getattr(getattr(obj, "spec", None), "replicas", None)},
            }
            return await self.patch(
                kind, meta.name, meta.namespace, patch, subresource="scale", dry_run=dry_run
            )
        stored = self.objects.replace(
            kind_of(kind), meta.namespace, meta.name, _document(obj), subresource=subresource, dry_run=dry_run
        )
        return _typed(kind, stored.document)

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
        stored = self.objects.patch(
            kind_of(kind), namespace, name, patch, subresource=subresource, dry_run=dry_run
        )
        return _typed(kind, stored.document)

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
        wanted = preconditions or Preconditions()
        options = DeleteOptions(propagation, grace_period_s, wanted.uid, wanted.resource_version)
        self.objects.delete(kind_of(kind), namespace, name, options)


def _document(obj: Resource) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(obj, str_keys=True)
    return document


def _typed(kind: type[R], document: dict[str, Any]) -> R:
    return msgspec.convert(document, kind)


@cache
def _decoder(kind: type[R]) -> msgspec.json.Decoder[R]:
    return msgspec.json.Decoder(kind)


def _decode(kind: type[R], document: bytes) -> R:
    return cast(R, _decoder(kind).decode(document))
