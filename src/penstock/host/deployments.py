"""Deployments: the shell around `decide/deployment.py`."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from msgspec import structs

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key, owner_keys
from penstock.decide.deployment import REVISION, DeploymentPlan, plan_deployment
from penstock.host.owned import owned
from penstock.kit.clock import Clock
from penstock.kit.errors import AlreadyExists, NotFound
from penstock.resources.workload import Deployment, ReplicaSet

SETTLE_S = 0.01
"""A ReplicaSet that is made or resized answers within milliseconds, and again when its status is written."""


class DeploymentController:
    """Keeps each Deployment's ReplicaSets, status and revision as its plan says."""

    name = "deployment"
    settle_s = SETTLE_S

    def __init__(self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock) -> None:
        """See `contracts/controller.py`."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock

    def watches(self) -> tuple[Watch, ...]:
        """Deployments, and the ReplicaSets that they own."""
        return (Watch(Deployment, own_key), Watch(ReplicaSet, owner_keys("Deployment")))

    async def reconcile(self, key: Key) -> float | None:
        """One step."""
        deployment = self._cache.get(Deployment, key.name, key.namespace)
        if deployment is None or deployment.metadata.deletion_timestamp is not None:
            return None
        plan = plan_deployment(deployment, owned(self._cache, ReplicaSet, deployment), self._clock.now())
        if plan.acts:
            plan = await self._apply(deployment)
        await self._write(deployment, plan)
        return plan.again_s

    async def _apply(self, deployment: Deployment) -> DeploymentPlan:
        """Acts on a fresh list: sizes that lag behind our own writes would let too many pods go."""
        namespace = deployment.metadata.namespace
        listing = await self._cluster.list(ReplicaSet, namespace, owner=deployment.metadata.uid)
        replica_sets = listing.items
        plan = plan_deployment(deployment, replica_sets, self._clock.now())
        if plan.create is not None:
            size = plan.create.spec.replicas or 0
            try:
                await self._cluster.create(plan.create)
            except AlreadyExists:
                return _after_collision(plan)
            self._tell(deployment, plan.create.metadata.name, 0, size)
        sizes = {rs.metadata.name: rs.spec.replicas or 0 for rs in replica_sets}
        for name, size in plan.scale:
            await self._cluster.patch(ReplicaSet, name, namespace, {"spec": {"replicas": size}})
            self._tell(deployment, name, sizes[name], size)
        for name, patch in plan.adjust:
            await self._cluster.patch(ReplicaSet, name, namespace, patch)
        for name in plan.delete:
            with contextlib.suppress(NotFound):
                await self._cluster.delete(ReplicaSet, name, namespace)
        return plan

    def _tell(self, deployment: Deployment, name: str, before: int, after: int) -> None:
        if before == after:
            return
        way = "up" if after > before else "down"
        message = f"Scaled {way} replica set {name} from {before} to {after}"
        self._recorder.event(deployment, "Normal", "ScalingReplicaSet", message)

    async def _write(self, deployment: Deployment, plan: DeploymentPlan) -> None:
        meta = deployment.metadata
        if plan.revision and meta.annotations.get(REVISION) != plan.revision:
            patch = {"metadata": {"annotations": {REVISION: plan.revision}}}
            deployment = await self._cluster.patch(Deployment, meta.name, meta.namespace, patch)
        if plan.status is not None and plan.status != deployment.status:
            await self._cluster.replace(structs.replace(deployment, status=plan.status), subresource="status")


def _after_collision(plan: DeploymentPlan) -> DeploymentPlan:
    """A ReplicaSet of another owner has the name: the count changes the next hash, and with it the name."""
    assert plan.status is not None
    count = (plan.status.collision_count or 0) + 1
    return replace(plan, status=structs.replace(plan.status, collision_count=count))
