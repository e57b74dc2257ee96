"""Which service does a caller mean by a model's name, or by a Host? Or which tagged revision of one?"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

from msgspec.structs import replace

from penstock.contracts.exchange import RouteTable, ServiceRoute
from penstock.kit.errors import NotFound, nearest

MAX_ASKED = 1024
"""Values of Host whose meaning is remembered."""


class Names:
    """An index over one RouteTable: `name`, `namespace/name`, aliases, and hosts."""

    def __init__(self, table: RouteTable) -> None:
        """A bare name that several namespaces have means the one in `default`, else none of them."""
        self.table = table
        self.routes = {(service.namespace, service.name): service for service in table.services}
        self._models: dict[str, ServiceRoute] = {}
        self._ambiguous: dict[str, list[str]] = {}
        self._hosts: dict[str, ServiceRoute] = {}
        self._asked: dict[bytes, ServiceRoute | None] = {}
        bare: dict[str, list[ServiceRoute]] = {}
        for service in table.services:
            self._models[full_name(service)] = service
            for name in (service.name, *service.aliases):
                bare.setdefault(name, []).append(service)
            self._hosts.update(dict.fromkeys(service.hosts, service))
        for name, services in bare.items():
            chosen = services if len(services) == 1 else [s for s in services if s.namespace == "default"]
            if len(chosen) == 1:
                self._models.setdefault(name, chosen[0])
            else:
                self._ambiguous[name] = [full_name(s) for s in services]
        for service in table.services:
            for view in tagged(service) if any(r.tag for r in service.revisions) else ():
                self._models.setdefault(full_name(view), view)
                for host in view.hosts:
                    self._hosts.setdefault(host, view)

    def changed(self, service: ServiceRoute) -> Names:
        """The same with another route to a service that there is: under every name that means it."""
        before = self.routes[service.namespace, service.name]
        views = dict(zip(tagged(before), tagged(service), strict=True))

        def present(route: ServiceRoute) -> ServiceRoute:
            return service if route is before else views.get(route, route) if route.tag else route

        other = copy(self)
        other.table = replace(self.table, services=tuple(map(present, self.table.services)))
        other.routes = {**self.routes, (service.namespace, service.name): service}
        other._models = {name: present(route) for name, route in self._models.items()}
        other._hosts = {host: present(route) for host, route in self._hosts.items()}
        other._asked = {}
        return other

    def service(self, model: str) -> ServiceRoute:
        """The service of a model's name. Raises NotFound with the nearest names."""
        found = self._models.get(model)
        if found is not None:
            return found
        if model in self._ambiguous:
            names = " or ".join(self._ambiguous[model])
            raise NotFound(
                f"the model {model!r} exists in several namespaces: say {names}", code="model_not_found"
            )
        close = nearest(model, sorted(self._models))
        hint = (
            f"did you mean {' or '.join(map(repr, close))}?" if close else "see /v1/models for what is served"
        )
        raise NotFound(f"the model {model!r} does not exist", code="model_not_found", hint=hint)

    def present(self, service: ServiceRoute) -> ServiceRoute:
        """The service as the table has it now; as it was, if it is gone."""
        return self._models.get(full_name(service), service)

    def host(self, host: bytes) -> ServiceRoute | None:
        """The service that a Host header names: `name.namespace.domain` or `name-namespace.domain`."""
        if host in self._asked:
            return self._asked[host]
        first, _, rest = host.decode("latin-1").partition(":")[0].lower().partition(".")
        found = self._hosts.get(f"{first}.{rest.partition('.')[0]}") or (
            self._hosts.get(first) if rest else None
        )
        if len(self._asked) < MAX_ASKED:
            self._asked[host] = found
        return found

    def models(self) -> Iterable[tuple[str, ServiceRoute]]:
        """Every service under the shortest name that means it, then its aliases."""
        for service in self.table.services:
            full = full_name(service)
            yield (service.name if self._models.get(service.name) is service else full), service
            for alias in service.aliases:
                if self._models.get(alias) is service:
                    yield alias, service


def full_name(service: ServiceRoute) -> str:
    """`namespace/name`; `namespace/tag-name` where one revision is meant, as Knative has it."""
    name = f"{service.tag}-{service.name}" if service.tag else service.name
    return f"{service.namespace}/{name}"


def tagged(service: ServiceRoute) -> list[ServiceRoute]:
    """The service once for each tag: with that revision only, whatever its share of the traffic is."""
    return [
        replace(
            service,
            tag=revision.tag,
            hosts=tuple(f"{revision.tag}-{host}" for host in service.hosts),
            revisions=(replace(revision, weight_percent=100, tag=""),),
            split_by="",
        )
        for revision in service.revisions
        if revision.tag
    ]
