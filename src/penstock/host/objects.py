"""What Kubernetes does with objects, on JSON documents: admission, concurrency, subresources, deletion, selection.

Calls are synchronous and short (see `host/store.py`), so each is atomic on the event loop; only `watch` waits.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from penstock.host import apply, deletion, metadata, scale
from penstock.host.cache_rules import check_cache, check_cache_delete
from penstock.host.claim_rules import check_claim
from penstock.host.deletion import DeleteOptions
from penstock.host.metadata import Document, resource_of
from penstock.host.priorities import check_default, with_priority
from penstock.host.rivalry import warn_of_rivals
from penstock.host.selection import Selection
from penstock.host.store import Row, Store
from penstock.host.watching import ObjectWatch
from penstock.kit.clock import Clock, SystemClock
from penstock.kit.errors import AlreadyExists, Forbidden, InvalidInput, NotFound
from penstock.kit.patch import json_patch, merge_patch
from penstock.kit.timestamps import rfc3339
from penstock.resources.admission import admit
from penstock.resources.core import Namespace
from penstock.resources.scheme import Kind, kind_of

SYSTEM_NAMESPACES = ("default", "kube-system", "penstock-system")
SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
ATTEMPTS = 4
"""How often a generated name may meet an existing one."""

BACKGROUND = DeleteOptions("Background")

Change = Callable[[Document], Document]


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it is now stored (or would be, in a dry run), and what its writer should be warned of."""

    document: Document
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects at one instant; `more` is the key to continue behind, with `resource_version` of the first page."""

    documents: tuple[Document, ...]
    resource_version: str
    more: tuple[str, str] | None = None


class ObjectStore:
    """Kubernetes' object semantics over a `Store`."""

    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        """The namespaces that always exist are created here."""
        self.store = store
        self.clock = clock or SystemClock()
        namespaces = kind_of(Namespace)
        for name in SYSTEM_NAMESPACES:
            if store.read(resource_of(namespaces), "", name) is None:
                self.create(namespaces, "", {"metadata": {"name": name}})

    def get(self, kind: Kind, namespace: str, name: str) -> Document:
        """One object. Raises NotFound."""
        return _document(self.row(kind, namespace, name))

    def row(self, kind: Kind, namespace: str, name: str) -> Row:
        """One object as stored bytes. Raises NotFound."""
        row = self.store.read(resource_of(kind), namespace, name)
        if row is None:
            raise NotFound(f'{resource_of(kind)} "{name}" not found')
        return row

    def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        selection: Selection | None = None,
        limit: int | None = None,
        after: tuple[str, str] = ("", ""),
    ) -> Objects:
        """Objects that match, by namespace and name; `limit` bounds the rows that are looked at."""
        page = self.store.list(resource_of(kind), namespace, after=after, limit=limit)
        documents = tuple(map(_document, page.rows))
        if selection:
            documents = tuple(document for document in documents if selection.matches(document))
        last = page.rows[-1] if page.more else None
        return Objects(documents, str(page.version), (last.namespace, last.name) if last else None)

    def owned(
        self, kind: Kind, namespace: str | None, owner_uid: str, selection: Selection
    ) -> tuple[Document, ...]:
        """The objects of a kind that an owner controls and that match, by namespace and name."""
        rows = self.store.dependents(owner_uid)
        documents = [
            _document(row)
            for row in rows
            if row.resource == resource_of(kind) and namespace in (None, row.namespace)
        ]
        return tuple(
            document
            for document in documents
            if selection.matches(document) and _controller(document) == owner_uid
        )

    def watch(
        self, kind: Kind, namespace: str | None, *, since: str, selection: Selection | None = None
    ) -> ObjectWatch:
        """Changes after the version `since`. Raises Expired when they are no longer kept."""
        if not since.isdecimal():
            raise InvalidInput(f"resourceVersion: found {since!r}, expected a number as a list returned it")
        return ObjectWatch(self.store.position(resource_of(kind), int(since)), namespace, selection)

    def create(
        self,
        kind: Kind,
        namespace: str,
        document: Mapping[str, Any],
        *,
        strict: bool = False,
        dry_run: bool = False,
    ) -> Stored:
        """Admit and store a new object. Raises AlreadyExists, NotFound (its namespace), Invalid."""
        addressed = metadata.address(kind, document, namespace)
        self._check_namespace(kind, namespace)
        generated = not addressed["metadata"].get("name")
        for attempt in range(ATTEMPTS):
            suffix = "".join(secrets.choice(SUFFIX_ALPHABET) for _ in range(5))
            fresh = metadata.created(
                kind, addressed, now=rfc3339(self.clock.now()), uid=str(uuid.uuid4()), suffix=suffix
            )
            name = fresh["metadata"]["name"]
            if self.store.read(resource_of(kind), namespace, name) is None:
                break
            if not generated or attempt == ATTEMPTS - 1:
                raise AlreadyExists(f'{resource_of(kind)} "{name}" already exists')
        admitted = admit(with_priority(kind, fresh, self.store), strict=strict)
        check_cache(admitted.object, self.store)
        check_claim(admitted.object, self.store)
        warnings = (*admitted.warnings, *warn_of_rivals(admitted.object, self.store))
        result = metadata.folded_secret(admitted.document)
        if kind.kind == "Namespace":
            result = deletion.guarded_namespace(result)
        return Stored(self._write(kind, result, None, dry_run), warnings)

    def replace(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        document: Mapping[str, Any],
        *,
        subresource: str = "",
        strict: bool = False,
        dry_run: bool = False,
    ) -> Stored:
        """Put the document in the object's place. Raises NotFound, Conflict, Invalid."""
        return self.change(
            kind,
            namespace,
            name,
            lambda _: dict(document),
            subresource=subresource,
            strict=strict,
            dry_run=dry_run,
        )

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        subresource: str = "",
        strict: bool = False,
        dry_run: bool = False,
    ) -> Stored:
        """Apply a merge patch (mapping) or a JSON patch (sequence). Raises NotFound, Conflict, Invalid."""

        def change(current: Document) -> Document:
            result = merge_patch(current, patch) if isinstance(patch, Mapping) else json_patch(current, patch)
            if not isinstance(result, dict):
                raise InvalidInput("the patch turns the object into something that is not an object")
            return result

        return self.change(
            kind, namespace, name, change, subresource=subresource, strict=strict, dry_run=dry_run
        )

    def apply(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        document: Document,
        *,
        manager: str,
        force: bool = False,
        strict: bool = False,
        dry_run: bool = False,
    ) -> tuple[Stored, bool]:
        """Server-side apply; also whether it created the object. Raises Conflict on fields of other managers."""
        wanted = metadata.address(kind, document, namespace, name)

        def change(current: Document) -> Document:
            now = rfc3339(self.clock.now())
            return apply.applied(kind, current, wanted, manager=manager, force=force, now=now)

        if self.store.read(resource_of(kind), namespace, name) is None:
            return self.create(kind, namespace, change({}), strict=strict, dry_run=dry_run), True
        return self.change(kind, namespace, name, change, strict=strict, dry_run=dry_run), False

    def change(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Change,
        *,
        subresource: str = "",
        strict: bool = False,
        dry_run: bool = False,
    ) -> Stored:
        """Replace the object, its `status` or its `scale` by what `change` makes of it.

        With `scale`, `change` sees and returns an autoscaling/v1 Scale; the result is always the whole object.
        """
        row = self.row(kind, namespace, name)
        current = _document(row)
        if subresource and subresource not in kind.subresources:
            raise NotFound(
                f"the server could not find the requested resource: {kind.plural} have no {subresource!r}"
            )
        if subresource == "scale":
            wanted = change(scale.scale_of(current))
            changed = metadata.updated(kind, scale.scaled(current, wanted), current)
        else:
            wanted = metadata.address(kind, change(current), namespace, name)
            merge = metadata.with_status if subresource == "status" else metadata.updated
            changed = merge(kind, wanted, current)
        check_default(kind, changed, self.store)
        admitted = admit(changed, msgspec.convert(current, kind.type), strict=strict)
        if changed.get("spec") != current.get("spec"):
            check_cache(admitted.object, self.store)
        result = metadata.folded_secret(admitted.document)
        return Stored(self._write(kind, result, row, dry_run), tuple(admitted.warnings))

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        options: DeleteOptions = BACKGROUND,
        *,
        dry_run: bool = False,
    ) -> tuple[Document, bool]:
        """Delete or mark for deletion; the object's last state, and whether it is gone. Raises NotFound, Conflict."""
        row = self.row(kind, namespace, name)
        current = _document(row)
        if kind.kind == "Namespace" and name in SYSTEM_NAMESPACES:
            raise Forbidden(f'namespaces "{name}" is forbidden: this namespace may not be deleted')
        deletion.check_preconditions(kind, current, options)
        check_cache_delete(kind, namespace, name, self.store)
        marked = deletion.marked(current, options, now_s=self.clock.now())
        if not deletion.is_finished(marked):
            return self._write(kind, marked, row, dry_run), False
        if not dry_run:
            marked = self._remove(kind, marked, row)
        return marked, True

    def _write(self, kind: Kind, document: Document, row: Row | None, dry_run: bool) -> Document:
        """Store a document in the place of `row`; without a difference nothing is written."""
        meta = document["metadata"]
        if dry_run or (row is not None and document == _document(row)):
            return document
        if row is not None and meta.get("deletionTimestamp") and deletion.is_finished(document):
            return self._remove(kind, document, row)
        document = self._versioned(document)
        owners = [owner["uid"] for owner in meta.get("ownerReferences") or ()]
        namespace = meta.get("namespace", "")
        try:
            self.store.write(
                resource_of(kind),
                namespace,
                meta["name"],
                orjson.dumps(document),
                uid=meta["uid"],
                owner_uids=owners,
                expected=None if row is None else row.version,
            )
        except orjson.JSONEncodeError as error:
            raise InvalidInput(f"the object is not JSON: {error}") from error
        return document

    def _remove(self, kind: Kind, document: Document, row: Row) -> Document:
        document = self._versioned(document)
        self.store.remove(row.resource, row.namespace, row.name, orjson.dumps(document), expected=row.version)
        return document

    def _versioned(self, document: Document) -> Document:
        return {
            **document,
            "metadata": {**document["metadata"], "resourceVersion": str(self.store.next_version)},
        }

    def _check_namespace(self, kind: Kind, namespace: str) -> None:
        if not kind.namespaced:
            return
        if not namespace:
            raise InvalidInput("an empty namespace may not be set during creation")
        row = self.store.read("namespaces", "", namespace)
        if row is None:
            raise NotFound(
                f'namespaces "{namespace}" not found',
                hint=f"create it first: kubectl create namespace {namespace}",
            )
        if "deletionTimestamp" in _document(row)["metadata"]:
            raise Forbidden(
                f"{resource_of(kind)} is forbidden: unable to create new content in namespace {namespace}"
                " because it is being terminated"
            )


def _controller(document: Document) -> str:
    """The uid of the owner that controls it."""
    references = document["metadata"].get("ownerReferences") or ()
    return next((reference["uid"] for reference in references if reference.get("controller")), "")


def _document(row: Row) -> Document:
    document: Document = orjson.loads(row.document)
    return document
