"""Deleting a namespace deletes its content first, then the namespace itself."""

from __future__ import annotations

from penstock.contracts.controller import Key, Watch, own_key
from penstock.host.deletion import CONTENT, DeleteOptions
from penstock.host.objects import ObjectStore
from penstock.kit.errors import NotFound
from penstock.resources.core import Namespace
from penstock.resources.scheme import KINDS, kind_of

RECHECK_S = 1.0
"""How often a namespace whose content has finalizers or running pods is looked at again."""


class NamespaceController:
    """The controller."""

    name = "namespaces"

    def __init__(self, objects: ObjectStore) -> None:
        """It works on the object store itself: content crosses kinds."""
        self._objects = objects

    def watches(self) -> tuple[Watch, ...]:
        """Namespaces alone; content is looked at only while one is being deleted."""
        return (Watch(Namespace, own_key),)

    async def reconcile(self, key: Key) -> float | None:
        """Empty a namespace that is being deleted and let it go once it is empty."""
        namespaces = kind_of(Namespace)
        try:
            namespace = self._objects.get(namespaces, "", key.name)
        except NotFound:
            return None
        if "deletionTimestamp" not in namespace["metadata"]:
            return None
        if self._empty(key.name):
            kept = [name for name in namespace["metadata"].get("finalizers") or () if name != CONTENT]
            self._objects.patch(namespaces, "", key.name, {"metadata": {"finalizers": kept}})
            return None
        return RECHECK_S

    def _empty(self, namespace: str) -> bool:
        """Delete what is there; whether nothing is left."""
        left = 0
        for kind in KINDS:
            if not kind.namespaced:
                continue
            for document in self._objects.list(kind, namespace).documents:
                meta = document["metadata"]
                if "deletionTimestamp" in meta:
                    left += 1
                    continue
                _, gone = self._objects.delete(kind, namespace, meta["name"], DeleteOptions("Background"))
                left += not gone
        return left == 0
