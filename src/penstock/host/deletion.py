"""How an object goes: at once, after its finalizers, or (a running pod) after its processes.

Functions over documents; `host/objects.py` applies them and `host/garbage.py` follows up on dependents.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.contracts.cluster import Propagation
from penstock.host.metadata import FOREGROUND, ORPHAN, Document, marked_for_deletion, resource_of
from penstock.kit.errors import Conflict
from penstock.kit.timestamps import rfc3339
from penstock.resources.scheme import Kind

CONTENT = "penstock.dev/content"
"""The finalizer that keeps a namespace until its content is gone."""

DEFAULT_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """What a delete asks for; `propagation` None means what the finalizers already say, else Background."""

    propagation: Propagation | None = None
    grace_period_s: int | None = None
    uid: str | None = None
    resource_version: str | None = None


def check_preconditions(kind: Kind, current: Document, options: DeleteOptions) -> None:
    """Raise Conflict when the object is not the one that the caller saw."""
    meta = current["metadata"]
    for title, wanted, found in (
        ("UID", options.uid, meta["uid"]),
        ("ResourceVersion", options.resource_version, meta["resourceVersion"]),
    ):
        if wanted and wanted != found:
            raise Conflict(
                f'Operation cannot be fulfilled on {resource_of(kind)} "{meta["name"]}": Precondition failed: '
                f"{title} in precondition: {wanted}, {title} in object meta: {found}"
            )


def marked(current: Document, options: DeleteOptions, *, now_s: float) -> Document:
    """The document as a delete leaves it; a later delete can only shorten a pod's grace."""
    meta = current["metadata"]
    finalizers = _finalizers(tuple(meta.get("finalizers") or ()), options.propagation)
    grace_s = _grace_s(current, options.grace_period_s)
    stamp = rfc3339(now_s + grace_s)
    if "deletionTimestamp" in meta:
        known_s = meta.get("deletionGracePeriodSeconds") or 0
        if options.grace_period_s is None or grace_s >= known_s:
            grace_s, stamp = known_s, meta["deletionTimestamp"]
    result = marked_for_deletion(current, now=stamp, grace_s=grace_s, finalizers=finalizers)
    if current["kind"] == "Namespace":
        result["status"] = {**(current.get("status") or {}), "phase": "Terminating"}
    return result


def is_finished(document: Document) -> bool:
    """Whether a document that is marked for deletion has nothing left to wait for."""
    meta = document["metadata"]
    return not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds")


def guarded_namespace(document: Document) -> Document:
    """A new namespace with the finalizer that keeps it until its content is gone."""
    meta = document["metadata"]
    finalizers = [*(meta.get("finalizers") or ()), CONTENT]
    return {
        **document,
        "metadata": {
            **meta,
            "finalizers": list(dict.fromkeys(finalizers)),
            "labels": {**(meta.get("labels") or {}), "kubernetes.io/metadata.name": meta["name"]},
        },
        "status": {"phase": "Active"},
    }


def _finalizers(present: tuple[str, ...], propagation: Propagation | None) -> tuple[str, ...]:
    """The finalizers after a delete with this propagation; None leaves them."""
    if propagation is None:
        return present
    others = tuple(name for name in present if name not in (FOREGROUND, ORPHAN))
    extra = {"Foreground": (FOREGROUND,), "Orphan": (ORPHAN,), "Background": ()}[propagation]
    return (*others, *extra)


def _grace_s(document: Document, asked_s: int | None) -> int:
    """Only a pod that may have processes gets a grace: one that is placed and has not ended."""
    spec, status = document.get("spec") or {}, document.get("status") or {}
    if (
        document["kind"] != "Pod"
        or not spec.get("nodeName")
        or status.get("phase") in ("Succeeded", "Failed")
    ):
        return 0
    if asked_s is None:
        asked_s = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    return max(0, asked_s)
