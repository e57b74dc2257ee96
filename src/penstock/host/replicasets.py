"""ReplicaSets: the shell around `decide/replica_set.py`."""

from __future__ import annotations

import contextlib

from msgspec import structs

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key, owner_keys
from penstock.decide.replica_set import ReplicaSetPlan, failed_to_create, plan_replica_set, pod_of
from penstock.host.owned import owned
from penstock.host.vpa_sizing import AUTOSCALERS, sized_for
from penstock.kit.clock import Clock
from penstock.kit.errors import NotFound, PlatformError
from penstock.resources.pod import Pod
from penstock.resources.serving import InferenceService
from penstock.resources.workload import ReplicaSet


class ReplicaSetController:
    """Keeps each ReplicaSet's pods at the wished number."""

    name = "replicaset"

    def __init__(self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock) -> None:
        """See `contracts/controller.py`."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock

    def watches(self) -> tuple[Watch, ...]:
        """ReplicaSets, and the pods that they own; autoscalers and services only so that the cache knows the size of a new pod."""
        sizes = (Watch(kind, lambda _: ()) for kind in (*AUTOSCALERS, InferenceService))
        return (Watch(ReplicaSet, own_key), Watch(Pod, owner_keys("ReplicaSet")), *sizes)

    async def reconcile(self, key: Key) -> float | None:
        """Count, then add or remove what is missing or too much."""
        replica_set = self._cache.get(ReplicaSet, key.name, key.namespace)
        if replica_set is None:
            return None
        plan = plan_replica_set(replica_set, owned(self._cache, Pod, replica_set), self._clock.now())
        error: PlatformError | None = None
        if plan.create or plan.delete:
            plan, error = await self._apply(replica_set)
        status = plan.status
        if error is not None:
            condition = failed_to_create(replica_set, error.message, self._clock.now())
            status = structs.replace(status, conditions=(condition,))
        if status != replica_set.status:
            await self._cluster.replace(structs.replace(replica_set, status=status), subresource="status")
        if error is not None:
            raise error
        return plan.again_s

    async def _apply(self, replica_set: ReplicaSet) -> tuple[ReplicaSetPlan, PlatformError | None]:
        """Acts on a fresh list: a cache that lags behind our own writes would create pods twice.

        The plan that was followed, and why a pod could not be made.
        """
        meta = replica_set.metadata
        listing = await self._cluster.list(Pod, meta.namespace, owner=meta.uid)
        plan = plan_replica_set(replica_set, listing.items, self._clock.now())
        for _ in range(plan.create):
            try:
                new = pod_of(replica_set, plan.near)
                pod = await self._cluster.create(sized_for(new, replica_set, self._cache))
            except PlatformError as error:
                self._recorder.event(replica_set, "Warning", "FailedCreate", f"Error creating: {error}")
                return plan, error
            self._recorder.event(
                replica_set, "Normal", "SuccessfulCreate", f"Created pod: {pod.metadata.name}"
            )
        for name in plan.delete:
            with contextlib.suppress(NotFound):
                await self._cluster.delete(Pod, name, meta.namespace)
                self._recorder.event(replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")
        return plan, None
