"""Keeps the RouteTable current: what a change is about is made anew, everything else stays as it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping

from penstock.contracts.controller import Cache, Key, Watch, key_of
from penstock.contracts.exchange import ServiceRoute
from penstock.controlplane.feed import Feed
from penstock.decide.objectives import Objectives, objectives_of, with_objectives
from penstock.decide.revision import REVISION_LABEL
from penstock.decide.route_table import (
    helpers_of,
    key_routes,
    named_revisions,
    revisions_of,
    routes_of,
    tenant_routes,
)
from penstock.decide.routing_profile import PLATFORM, SYSTEM_NAMESPACE, Platform, Profiles, profiles_of
from penstock.kit.clock import Clock
from penstock.resources.access import ApiKey, Tenant
from penstock.resources.core import Namespace
from penstock.resources.meta import Resource
from penstock.resources.objective import InferenceObjective
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.routing import PREFILL_FOR, RoutingProfile
from penstock.resources.serving import InferenceService

COALESCE_S = 0.01
REST = 20.0
"""Between two tables that no pod asks for, in times of what the last took: telling everything anew for each service of a thousand that
are applied would take the whole process."""
MOST_REST_S = 0.25
ALL = Key("", "routes")


class RouteController:
    """Tells a new RouteTable when a service, a pod, an autoscaler, a routing profile, an objective, an API key or a tenant changes.

    A change costs what it is about: the routes of one service. Only putting all routes together and telling them costs more the more
    there are, so tables of a storm are spaced; one that a pod asks for never waits, since pods are what requests wait for.
    """

    name = "routes"

    def __init__(self, cache: Cache, feed: Feed, clock: Clock, platform: Platform = PLATFORM) -> None:
        """See `contracts/controller.py`; `platform` is what settings say of routing."""
        self._platform = platform
        self._cache = cache
        self._feed = feed
        self._clock = clock
        self._routes: dict[Key, tuple[ServiceRoute, ...]] = {}
        self._named: dict[Key, tuple[Key, ...]] = {}
        self._namer: dict[Key, Key] = {}
        self._helps: dict[Key, Key] = {}
        self._stale: set[Key] = set()
        self._urgent = asyncio.Event()
        self._rested_at = 0.0

    def watches(self) -> tuple[Watch, ...]:
        """Namespaces exist from the start: gateways want a table also where there is nothing else."""
        whole = (Watch(kind, lambda obj: (ALL,)) for kind in (ApiKey, Tenant, Namespace))
        return (
            Watch(InferenceService, self._touches(key_of)),
            Watch(Pod, self._pod_touches),
            Watch(PodAutoscaler, self._touches(self._namer_of_scaler)),
            Watch(RoutingProfile, self._profile_touches),
            Watch(InferenceObjective, self._objective_touches),
            *whole,
        )

    async def reconcile(self, key: Key) -> float | None:
        """One table for everything; a burst of changes makes one. Gateways know themselves when a key expires."""
        await self._pause()
        began = self._clock.monotonic()
        profiles = profiles_of(self._cache.list(RoutingProfile), self._platform)
        objectives = objectives_of(self._cache.list(InferenceObjective))
        for service in self._with_helped():
            self._renew(service, profiles, objectives)
        tenants = self._cache.list(Tenant)
        await self._feed.publish(
            self._service_routes(),
            key_routes(self._cache.list(ApiKey), tenants, self._clock.now()),
            tenant_routes(tenants),
        )
        ended = self._clock.monotonic()
        self._rested_at = ended + min(MOST_REST_S, REST * (ended - began))
        return None

    async def _pause(self) -> None:
        """What changes together is told together."""
        await self._clock.sleep(COALESCE_S)
        left_s = self._rested_at - self._clock.monotonic()
        if left_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._urgent.wait()
                await self._clock.sleep(COALESCE_S)
        self._urgent.clear()

    def _renew(self, key: Key, profiles: Profiles, objectives: Objectives) -> None:
        """The routes of one service, by what the cache knows now."""
        for revision in self._named.pop(key, ()):
            self._namer.pop(revision, None)
        service = self._cache.get(InferenceService, key.name, key.namespace)
        if service is None:
            self._routes.pop(key, None)
        else:
            revisions = tuple(Key(key.namespace, name) for name in named_revisions(service))
            self._named[key] = revisions
            self._namer.update(dict.fromkeys(revisions, key))
            known = revisions_of(self._pods(revisions), self._scalers(revisions))
            known = known._replace(helpers=self._helpers(key))
            routes = routes_of(service, known, profiles)
            self._routes[key] = tuple(with_objectives(route, objectives) for route in routes)
        self._stale.discard(key)

    def _with_helped(self) -> tuple[Key, ...]:
        """What is to be renewed, and after it the services whose prompts it computes, or did."""
        stale = tuple(self._stale)
        helped = {self._helps.pop(key) for key in stale if key in self._helps}
        for key in stale:
            service = self._cache.get(InferenceService, key.name, key.namespace)
            other = service.metadata.annotations.get(PREFILL_FOR) if service is not None else None
            if other:
                self._helps[key] = Key(key.namespace, other)
                helped.add(self._helps[key])
        return (*(key for key in stale if key not in helped), *helped)

    def _helpers(self, key: Key) -> Mapping[tuple[str, str], tuple[Pod, ...]]:
        """The pods that compute prompts for this service."""
        found = (
            self._cache.get(InferenceService, helper.name, helper.namespace)
            for helper, helped in self._helps.items()
            if helped == key
        )
        services = tuple(service for service in found if service is not None)
        named = [Key(key.namespace, name) for service in services for name in named_revisions(service)]
        return helpers_of(services, revisions_of(self._pods(named))) if services else {}

    def _pods(self, revisions: Iterable[Key]) -> Iterable[Pod]:
        for namespace, name in revisions:
            yield from self._cache.list(Pod, namespace, labels=f"{REVISION_LABEL}={name}")

    def _scalers(self, revisions: Iterable[Key]) -> Iterable[PodAutoscaler]:
        found = (self._cache.get(PodAutoscaler, name, namespace) for namespace, name in revisions)
        return (scaler for scaler in found if scaler is not None)

    def _service_routes(self) -> tuple[ServiceRoute, ...]:
        """Ordered by namespace and name."""
        routes = (route for made in self._routes.values() for route in made)
        return tuple(sorted(routes, key=lambda route: (route.namespace, route.name)))

    def _touches(self, service_of: Callable[[Resource], Key | None]) -> Callable[[Resource], Iterable[Key]]:
        def keys(obj: Resource) -> Iterable[Key]:
            service = service_of(obj)
            if service is None:
                return ()
            self._stale.add(service)
            return (ALL,)

        return keys

    def _pod_touches(self, pod: Resource) -> Iterable[Key]:
        """A pod of a revision that no service names shows in no route."""
        revision = Key(pod.metadata.namespace, pod.metadata.labels.get(REVISION_LABEL, ""))
        service = self._namer.get(revision)
        if service is None:
            return ()
        self._stale.add(service)
        self._urgent.set()
        return (ALL,)

    def _profile_touches(self, profile: Resource) -> Iterable[Key]:
        """Whichever service of its namespace might follow it; of all, where it may be everybody's default."""
        namespace = profile.metadata.namespace
        everywhere = namespace == SYSTEM_NAMESPACE
        self._stale.update(key for key in self._routes if everywhere or key.namespace == namespace)
        return (ALL,)

    def _objective_touches(self, objective: Resource) -> Iterable[Key]:
        """The service that it is for may be another than before."""
        namespace = objective.metadata.namespace
        self._stale.update(key for key in self._routes if key.namespace == namespace)
        return (ALL,)

    def _namer_of_scaler(self, scaler: Resource) -> Key | None:
        """An autoscaler has the name of its revision."""
        return self._namer.get(key_of(scaler))
