"""What an object's metadata becomes when it is created, changed or marked for deletion (Kubernetes' API conventions).

Functions over plain JSON documents; the caller gives time, identity and chance. Nothing given is modified.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from penstock.kit.errors import Cause, Conflict, Invalid, InvalidInput
from penstock.resources.scheme import Kind, find

Document = dict[str, Any]

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
KEPT = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
"""What an update cannot change; it keeps the stored value or its absence."""

STATUS_ON_CREATE = ("Node", "Namespace")
"""Kinds whose creator may give a status, as Kubernetes lets a kubelet register its node with one."""

NAME_LIMIT = 58
"""Characters of `generateName` that are kept, so that five random ones fit into 63."""


def resource_of(kind: Kind) -> str:
    """`plural.group`, as Kubernetes names a resource in messages; the store's key."""
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def address(kind: Kind, document: Mapping[str, Any], namespace: str, name: str = "") -> Document:
    """The document with the kind, namespace and name of its path. Raises InvalidInput where they contradict."""
    meta = _checked_metadata(document.get("metadata"))
    api_version, name_of_kind = (
        document.get("apiVersion") or kind.api_version,
        document.get("kind") or kind.kind,
    )
    if find(api_version, name_of_kind) is not kind:
        raise InvalidInput(
            f"the object is a {name_of_kind} of {api_version}, its path expects a {kind.kind} of {kind.api_version}"
        )
    if not kind.namespaced:
        meta.pop("namespace", None)
    elif meta.get("namespace") not in (None, "", namespace):
        raise InvalidInput(
            f"the namespace of the provided object does not match the namespace sent on the request"
            f" ({meta['namespace']!r} and {namespace!r})"
        )
    else:
        meta["namespace"] = namespace
    if name and meta.get("name") not in (None, "", name):
        raise InvalidInput(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
    if name:
        meta["name"] = name
    return {**document, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}


def created(kind: Kind, document: Document, *, now: str, uid: str, suffix: str) -> Document:
    """The document as it is first stored; `suffix` completes a `generateName`."""
    meta = dict(document["metadata"])
    if meta.get("resourceVersion"):
        raise InvalidInput("resourceVersion should not be set on objects to be created")
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"][:NAME_LIMIT] + suffix
    if not meta.get("name"):
        raise Invalid(
            f'{kind.qualified} "" is invalid: metadata.name: Required value: name or generateName is required',
            causes=(
                Cause(
                    "metadata.name", "Required value: name or generateName is required", "FieldValueRequired"
                ),
            ),
        )
    for field in (*KEPT, "selfLink"):
        meta.pop(field, None)
    meta |= {"uid": uid, "creationTimestamp": now}
    result = {**document, "metadata": meta}
    if "spec" in result:
        meta["generation"] = 1
    if "status" in kind.subresources and kind.kind not in STATUS_ON_CREATE:
        result.pop("status", None)
    if kind.kind == "Pod":
        result["status"] = {"phase": "Pending"}
    return result


def updated(kind: Kind, document: Document, current: Document) -> Document:
    """The document as it replaces `current`; its status is the stored one. Raises Conflict, Invalid."""
    check_current(kind, document, current)
    before, meta = current["metadata"], dict(document["metadata"])
    for field in KEPT:
        meta.pop(field, None)
        if field in before:
            meta[field] = before[field]
    meta.pop("selfLink", None)
    if "managedFields" in before:
        meta.setdefault("managedFields", before["managedFields"])
    meta["resourceVersion"] = before["resourceVersion"]
    if before.get("deletionTimestamp"):
        _refuse_new_finalizers(kind, meta, before)
    result = {**document, "metadata": meta}
    if "status" in kind.subresources:
        result.pop("status", None)
        if "status" in current:
            result["status"] = current["status"]
    if "spec" in result and _body(result) != _body(current):
        meta["generation"] = before.get("generation", 0) + 1
    return result


def with_status(kind: Kind, document: Document, current: Document) -> Document:
    """`current` with the document's status and nothing else of it. Raises Conflict."""
    check_current(kind, document, current)
    result = {**current}
    result.pop("status", None)
    if "status" in document:
        result["status"] = document["status"]
    return result


def check_current(kind: Kind, document: Document, current: Document) -> None:
    """Raise Conflict when the document names another uid or resourceVersion than the stored one."""
    given, stored = document["metadata"], current["metadata"]
    for field, title in (("uid", "UID"), ("resourceVersion", "resourceVersion")):
        if given.get(field) and given[field] != stored[field]:
            reason = (
                "the object has been modified; please apply your changes to the latest version and try again"
                if field == "resourceVersion"
                else f"Precondition failed: {title} in precondition: {given[field]}, {title} in object meta: {stored[field]}"
            )
            raise Conflict(
                f'Operation cannot be fulfilled on {resource_of(kind)} "{stored["name"]}": {reason}',
                hint="read the object again, repeat the change, and send it with the new resourceVersion",
            )


def marked_for_deletion(
    document: Document, *, now: str, grace_s: int, finalizers: tuple[str, ...]
) -> Document:
    """The document with a deletionTimestamp (`now`, which includes the grace) and its finalizers."""
    meta = {**document["metadata"], "deletionTimestamp": now, "deletionGracePeriodSeconds": grace_s}
    if "generation" in meta and "deletionTimestamp" not in document["metadata"]:
        meta["generation"] += 1
    meta.pop("finalizers", None)
    if finalizers:
        meta["finalizers"] = list(finalizers)
    return {**document, "metadata": meta}


def folded_secret(document: Document) -> Document:
    """A Secret's `stringData` moved into `data`, as Kubernetes stores it."""
    texts = document.get("stringData")
    if document.get("kind") != "Secret" or not isinstance(texts, Mapping):
        return document
    data = dict(document.get("data") or {})
    for key, text in texts.items():
        if isinstance(text, str):
            data[key] = base64.b64encode(text.encode()).decode()
    return {**{field: value for field, value in document.items() if field != "stringData"}, "data": data}


def _checked_metadata(given: Any) -> Document:
    """A copy of the metadata whose identifying fields are texts; the rest is admission's to check."""
    if given is not None and not isinstance(given, Mapping):
        raise InvalidInput(f"metadata: found {type(given).__name__}, expected an object")
    meta = dict(given or {})
    for field in ("name", "generateName", "namespace", "uid", "resourceVersion"):
        if not isinstance(meta.get(field, ""), str | None):
            raise InvalidInput(f"metadata.{field}: found {meta[field]!r}, expected a string")
    return meta


def _body(document: Document) -> Document:
    return {field: value for field, value in document.items() if field not in ("metadata", "status")}


def _refuse_new_finalizers(kind: Kind, meta: Document, before: Document) -> None:
    added = sorted(set(meta.get("finalizers") or ()) - set(before.get("finalizers") or ()))
    if added:
        problem = f"Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added}"
        raise Invalid(
            f'{kind.qualified} "{before["name"]}" is invalid: metadata.finalizers: {problem}',
            causes=(Cause("metadata.finalizers", problem, "FieldValueForbidden"),),
        )
