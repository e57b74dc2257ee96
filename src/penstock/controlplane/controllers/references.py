"""What routing refers to and is not there: told in the status of InferenceObjectives, and by Events about InferenceServices."""

from __future__ import annotations

from msgspec.structs import replace

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, key_of, own_key
from penstock.decide.objective_status import objective_status, service_name
from penstock.decide.routing_profile import problem, profiles_of
from penstock.kit.clock import Clock
from penstock.resources.meta import Resource
from penstock.resources.objective import InferenceObjective
from penstock.resources.routing import RoutingProfile
from penstock.resources.serving import InferenceService

NOT_USED = "RoutingProfileNotUsed"


class ObjectiveController:
    """Whether an InferenceObjective is accepted. What gateways take does not hang on it."""

    name = "inference-objectives"

    def __init__(self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock) -> None:
        """See `contracts/controller.py`."""
        self._cluster, self._cache, self._recorder, self._clock = cluster, cache, recorder, clock

    def watches(self) -> tuple[Watch, ...]:
        """Objectives, and the services that they are for."""
        return (Watch(InferenceObjective, own_key), Watch(InferenceService, self._objectives_of))

    async def reconcile(self, key: Key) -> float | None:
        """Write the status if it says something else."""
        found = self._cache.get(InferenceObjective, key.name, key.namespace)
        if found is None or found.metadata.deletion_timestamp is not None:
            return None
        has_pool = self._cache.get(InferenceService, service_name(found), key.namespace) is not None
        status = objective_status(found, has_pool=has_pool, now=self._clock.now())
        if status != found.status:
            await self._cluster.replace(replace(found, status=status), subresource="status")
            if not has_pool:
                (accepted,) = status.conditions
                self._recorder.event(found, "Warning", accepted.reason, accepted.message)
        return None

    def _objectives_of(self, service: Resource) -> list[Key]:
        meta = service.metadata
        known = self._cache.list(InferenceObjective, meta.namespace)
        return [key_of(one) for one in known if service_name(one) == meta.name]


class RoutingProfileController:
    """Says once of each service that names a routing profile which cannot hold for it why, and what holds."""

    name = "routing-profiles"

    def __init__(self, cache: Cache, recorder: Recorder) -> None:
        """See `contracts/controller.py`."""
        self._cache, self._recorder = cache, recorder
        self._told: dict[Key, str] = {}

    def watches(self) -> tuple[Watch, ...]:
        """Services, and the profiles that they may name."""
        return (Watch(InferenceService, own_key), Watch(RoutingProfile, self._services_of))

    async def reconcile(self, key: Key) -> float | None:
        """An Event where there is something else to say than before."""
        service = self._cache.get(InferenceService, key.name, key.namespace)
        said = problem(service, profiles_of(self._cache.list(RoutingProfile))) if service is not None else ""
        if service is None or not said:
            self._told.pop(key, None)
        elif self._told.get(key) != said:
            self._told[key] = said
            self._recorder.event(service, "Warning", NOT_USED, said)
        return None

    def _services_of(self, profile: Resource) -> list[Key]:
        return [key_of(one) for one in self._cache.list(InferenceService, profile.metadata.namespace)]
