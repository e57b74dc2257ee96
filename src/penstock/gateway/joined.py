"""Endpoints that told this gateway themselves that they are ready, before the table does.

They take part like any other until the table says the same, or lists them no more; and not once they fail a request meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace

from penstock.contracts.exchange import RevisionRoute, RouteTable, ServiceRoute
from penstock.decide.revision_share import has_endpoint

Id = tuple[str, str]


class Joined:
    """By the endpoint's name, that is by pod. Costs nothing while there are none."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._told: dict[Id, ServiceRoute] = {}

    def amend(self, table: RouteTable) -> RouteTable:
        """A new table with those that joined; they are forgotten where it says the same, or knows them no more."""
        self._told.clear()
        if not self.names:
            return table
        starting = {e.name: s for s in table.services for r in s.revisions for e in r.starting}
        self.names.intersection_update(starting)
        changed = {id(starting[name]) for name in self.names}
        return replace(
            table,
            services=tuple(self._amended(s) if id(s) in changed else s for s in table.services),
        )

    def join(self, service: ServiceRoute, name: str) -> ServiceRoute:
        """The service with the endpoint of that name, which it lists as starting."""
        self.names.add(name)
        return self._amended(self._told.get((service.namespace, service.name), service))

    def lose(self, service: ServiceRoute, name: str) -> ServiceRoute:
        """The service without it, until it says again that it is ready."""
        self.names.discard(name)
        return self._amended(self._told.get((service.namespace, service.name), service))

    def _amended(self, told: ServiceRoute) -> ServiceRoute:
        self._told[told.namespace, told.name] = told
        revisions = tuple(_moved(revision, self.names) for revision in told.revisions)
        if revisions == told.revisions:
            return told
        route = replace(told, revisions=revisions)
        return replace(route, phase="Ready", message="", start_phase="") if has_endpoint(route) else route


def _moved(revision: RevisionRoute, names: Collection[str]) -> RevisionRoute:
    ready = tuple(e for e in revision.starting if e.name in names)
    if not ready:
        return revision
    return replace(
        revision,
        endpoints=(*revision.endpoints, *ready),
        starting=tuple(e for e in revision.starting if e not in ready),
    )
