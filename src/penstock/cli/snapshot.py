"""The cluster's objects as decisions read them, each kind read once from the API."""

from __future__ import annotations

from typing import TypeVar

from penstock.cli.api import Api
from penstock.cli.devices import every
from penstock.kit.errors import NotFound
from penstock.resources.meta import Resource
from penstock.resources.selectors import matches, parse_labels

R = TypeVar("R", bound=Resource)


class Snapshot:
    """A `contracts.controller.Cache`. A kind that the cluster does not have has no objects."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[type[Resource], tuple[Resource, ...]] = {}

    def get(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        """The object, or None."""
        return next((one for one in self.list(kind, namespace) if one.metadata.name == name), None)

    def list(
        self, kind: type[R], namespace: str | None = None, *, labels: str = "", owner: str = ""
    ) -> tuple[R, ...]:
        """All that match, ordered by namespace and name."""
        wanted = parse_labels(labels)
        return tuple(
            one
            for one in self._all(kind)
            if namespace in (None, one.metadata.namespace)
            and matches(wanted, one.metadata.labels)
            and (not owner or any(o.uid == owner for o in one.metadata.owner_references if o.controller))
        )

    def _all(self, kind: type[R]) -> tuple[R, ...]:
        if kind not in self._known:
            try:
                found = every(self._api, kind)
            except NotFound:
                found = ()
            self._known[kind] = tuple(
                sorted(found, key=lambda one: (one.metadata.namespace, one.metadata.name))
            )
        return tuple(one for one in self._known[kind] if isinstance(one, kind))
