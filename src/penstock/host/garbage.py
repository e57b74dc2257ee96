"""Owner garbage collection: what an object leaves behind when it goes.

Background: an object whose owners are all gone is deleted. Foreground: an owner stays, deleting, until the dependents that block
it are gone. Orphan: an owner's dependents lose their reference to it and stay.

Keys name uids, not names: `Key(namespace of whoever spoke, uid)` asks what the absence or the deletion of the object with this
uid means for its dependents. The store indexes owners, so a reconcile reads only what it needs.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from penstock.contracts.cluster import Propagation
from penstock.contracts.controller import Key, Watch
from penstock.host.deletion import DeleteOptions
from penstock.host.metadata import FOREGROUND, ORPHAN, Document
from penstock.host.objects import ObjectStore
from penstock.host.store import Row
from penstock.kit.errors import Conflict, NotFound
from penstock.resources.core import Event
from penstock.resources.meta import Resource
from penstock.resources.scheme import KINDS, Kind, find

SETTLE_S = 0.01
"""Every change of an object asks after its owners, and those of one deletion come together."""


class GarbageCollector:
    """The controller. Events have no owners and are not watched."""

    name = "garbage"
    settle_s = SETTLE_S

    def __init__(self, objects: ObjectStore) -> None:
        """It works on the object store itself: ownership crosses kinds."""
        self._objects = objects

    def watches(self) -> tuple[Watch, ...]:
        """Every kind: each can own and be owned."""
        return tuple(Watch(kind.type, uids) for kind in KINDS if kind.type is not Event)

    async def reconcile(self, key: Key) -> float | None:
        """Follow up on one uid; nothing to wait for, since every further step is a change that is watched."""
        row = self._objects.store.read_uid(key.name)
        if row is None:
            for dependent in self._objects.store.dependents(key.name):
                self._release(dependent)
            return None
        owner = _document(row)
        finalizers = owner["metadata"].get("finalizers") or ()
        if "deletionTimestamp" not in owner["metadata"]:
            return None
        if ORPHAN in finalizers:
            for dependent in self._objects.store.dependents(key.name):
                self._drop_owners(dependent, {key.name})
            self._drop_finalizer(owner, ORPHAN)
        elif FOREGROUND in finalizers:
            self._foreground(owner)
        return None

    def _foreground(self, owner: Document) -> None:
        uid = owner["metadata"]["uid"]
        for row in self._objects.store.dependents(uid):
            document = _document(row)
            live = self._live_owners(document)
            if any(other["uid"] != uid for other in live):
                self._drop_owners(row, {uid})
            elif "deletionTimestamp" not in document["metadata"]:
                self._delete(row, "Foreground")
        blocked = any(
            reference["uid"] == uid and reference.get("blockOwnerDeletion")
            for row in self._objects.store.dependents(uid)
            for reference in _document(row)["metadata"].get("ownerReferences") or ()
        )
        if not blocked:
            self._drop_finalizer(owner, FOREGROUND)

    def _release(self, row: Row) -> None:
        """Delete an object whose owners are all gone, or take the dead ones from its references."""
        document = _document(row)
        live = {owner["uid"] for owner in self._live_owners(document)}
        dead = {owner["uid"] for owner in document["metadata"].get("ownerReferences") or ()} - live
        if live:
            self._drop_owners(row, dead)
        elif "deletionTimestamp" not in document["metadata"]:
            self._delete(row, None)

    def _live_owners(self, document: Document) -> list[Document]:
        """The owners that exist, in the object's own namespace or in none."""
        found = []
        for reference in document["metadata"].get("ownerReferences") or ():
            owner = self._objects.store.read_uid(reference["uid"])
            if owner and owner.namespace in ("", document["metadata"].get("namespace", "")):
                found.append(reference)
        return found

    def _delete(self, row: Row, propagation: Propagation | None) -> None:
        options = DeleteOptions(propagation, uid=row.uid)
        try:
            self._objects.delete(_kind(_document(row)), row.namespace, row.name, options)
        except (NotFound, Conflict):
            return  # it went by itself

    def _drop_owners(self, row: Row, uids: set[str]) -> None:
        def change(document: Document) -> Document:
            references = document["metadata"].get("ownerReferences") or ()
            kept = [reference for reference in references if reference["uid"] not in uids]
            return {**document, "metadata": {**document["metadata"], "ownerReferences": kept}}

        self._objects.change(_kind(_document(row)), row.namespace, row.name, change)

    def _drop_finalizer(self, owner: Document, finalizer: str) -> None:
        meta = owner["metadata"]

        def change(document: Document) -> Document:
            kept = [name for name in document["metadata"].get("finalizers") or () if name != finalizer]
            return {**document, "metadata": {**document["metadata"], "finalizers": kept}}

        self._objects.change(_kind(owner), meta.get("namespace", ""), meta["name"], change)


def uids(obj: Resource) -> Iterable[Key]:
    """The object itself, as an owner, and each of its owners."""
    meta = obj.metadata
    return tuple(
        Key(meta.namespace, uid) for uid in (meta.uid, *(owner.uid for owner in meta.owner_references))
    )


def _document(row: Row) -> Document:
    document: Document = orjson.loads(row.document)
    return document


def _kind(document: Document) -> Kind:
    kind = find(document["apiVersion"], document["kind"])
    assert kind is not None, "only known kinds are stored"
    return kind
