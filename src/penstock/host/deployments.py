"""Deployments: the shell around `decide/deployment.py`."""

from __future__ import annotations

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key, owner_keys
from penstock.decide.deployment import REVISION, DeploymentPlan, plan_deployment
from penstock.host.owned import owned
from penstock.kit.clock import Clock
from penstock.kit.errors import AlreadyExists, NotFound
from penstock.resources.workload import Deployment, ReplicaSet


class DeploymentController:
    """Keeps each Deployment's ReplicaSets, status and revision as its plan says."""

    name = "deployment"

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
        replica_sets = owned(self._cache, ReplicaSet, deployment)
        plan = plan_deployment(deployment, replica_sets, self._clock.now())
        await self._apply(deployment, plan)
        return plan.again_s

    async def _apply(self, deployment: Deployment, plan: DeploymentPlan) -> None:
        namespace = deployment.metadata.namespace
        if plan.create is not None:
            try:
                await self._cluster.create(plan.create)
            except AlreadyExists:
                return  # made a moment ago; the cache brings it
        for name, size in plan.scale:
            await self._cluster.patch(ReplicaSet, name, namespace, {"spec": {"replicas": size}})
        for name, revision in plan.annotate:
            await self._cluster.patch(
                ReplicaSet, name, namespace, {"metadata": {"annotations": {REVISION: revision}}}
            )
        for name in plan.delete:
            try:
                await self._cluster.delete(ReplicaSet, name, namespace)
            except NotFound:
                continue
        if plan.create is not None or plan.scale:
            self._recorder.event(deployment, "Normal", "ScalingReplicaSet", "; ".join(plan.reasons))
        await self._write(deployment, plan)

    async def _write(self, deployment: Deployment, plan: DeploymentPlan) -> None:
        meta = deployment.metadata
        if plan.revision and meta.annotations.get(REVISION) != plan.revision:
            patch = {"metadata": {"annotations": {REVISION: plan.revision}}}
            deployment = await self._cluster.patch(Deployment, meta.name, meta.namespace, patch)
        if plan.status is not None and plan.status != deployment.status:
            await self._cluster.replace(
                msgspec.structs.replace(deployment, status=plan.status), subresource="status"
            )
