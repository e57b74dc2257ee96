"""Brings a revision's decision to the cluster: its Deployment's size, who of its pods is set aside, its PodAutoscaler's status."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Literal

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Recorder
from penstock.controlplane.autoscaling.demand import Load
from penstock.controlplane.autoscaling.revision import Revision
from penstock.controlplane.starts import Starts
from penstock.decide.autoscaler_status import conditions_of, threshold
from penstock.decide.deployment import replicas_of
from penstock.decide.handover import ASLEEP_FOR
from penstock.decide.pod_priority import prioritised
from penstock.decide.replica_set import DELETION_COST, is_active, ready_since
from penstock.decide.revision import REVISION_LABEL
from penstock.decide.scale_in import DRAINING, Replica, ScaleIn, plan_scale_in
from penstock.decide.scale_to_zero import UNKNOWN, Applied, activators, mode_of
from penstock.decide.schedulable import Nodes, Room, capped
from penstock.kit.clock import Clock
from penstock.kit.errors import NotFound
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.core import PriorityClass
from penstock.resources.meta import ObjectMeta
from penstock.resources.moving import is_moving
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler, PodAutoscalerStatus
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment

DRAIN_LIMIT_S = 3600.0
"""How long a replica that is to go may keep its streams; a stream that is longer is cut."""
FIRST_TO_GO, LAST_TO_GO = "-1000", "0"
"""Deletion costs (controller.kubernetes.io/pod-deletion-cost) by which a ReplicaSet removes those that were chosen."""
NO_LOAD = Load()


class Applier:
    """Idempotent: what is as it should be is not written."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        starts: Starts,
        nodes: Nodes,
    ) -> None:
        """See `contracts/controller.py`; `starts` is told in the status, `nodes` say what there is room for."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._starts = starts
        self._nodes = nodes

    async def apply(self, revision: Revision) -> float | None:
        """Once; seconds until it should be done again, None for no need. Raises PlatformError."""
        name, namespace = revision.key.name, revision.key.namespace
        scaler = self._cache.get(PodAutoscaler, name, namespace)
        if scaler is None:
            return None
        deployment = self._cache.get(Deployment, scaler.spec.scale_target_ref.name, namespace)
        if deployment is None or deployment.metadata.deletion_timestamp is not None:
            return None
        labels = f"{REVISION_LABEL}={name}"
        pods = tuple(filter(is_active, self._cache.list(Pod, namespace, labels=labels)))
        revision.demand.keep(frozenset(pod.metadata.name for pod in pods))
        size, now = replicas_of(deployment), self._clock.monotonic()
        applied, room, again_s = Applied(UNKNOWN if size else 0), Room(size), None
        if revision.reachable and ASLEEP_FOR not in deployment.metadata.annotations:
            applied = revision.apply(size, now, revision.sleep(self._starts.of(revision.key)))
            wished = size if applied.replicas is None else applied.replicas
            if wished and not revision.initialized:
                wished = max(wished, size)  # the rollout has chosen a size that bears the traffic to come
            room = self._room(wished, size, deployment, pods)
            plan = plan_scale_in(
                self._replicas(revision, pods, now), room.size, self._clock.now(), DRAIN_LIMIT_S
            )
            await self._resize(revision, deployment, pods, plan, applied)
            again_s = plan.again_s
        await self._tell(revision, scaler, pods, applied, room)
        waits = [wait for wait in (applied.again_s, again_s) if wait is not None]
        return min(waits, default=None)

    def _room(self, wished: int, size: int, deployment: Deployment, pods: Iterable[Pod]) -> Room:
        """Only growth has to fit."""
        if wished <= size:
            return Room(wished)
        template = deployment.spec.template
        meta = ObjectMeta(
            name=deployment.metadata.name,
            namespace=deployment.metadata.namespace,
            labels=template.metadata.labels,
            annotations=template.metadata.annotations,
        )
        new = prioritised(Pod(metadata=meta, spec=template.spec), self._cache.list(PriorityClass))
        return capped(wished, new, pods, self._nodes, self._cache.list(Pod))

    def _replicas(self, revision: Revision, pods: Iterable[Pod], now: float) -> list[Replica]:
        """Those that count: a pod that is being moved has a successor, and is ended by whoever moves it."""
        replicas = []
        for pod in pods:
            if is_moving(pod, self._clock.now()):
                continue
            load = revision.demand.loads.get(pod.metadata.name, NO_LOAD)
            since = pod.metadata.annotations.get(DRAINING)
            replicas.append(
                Replica(
                    pod.metadata.name,
                    ready=ready_since(pod) is not None,
                    streams=sum(load.streams.values()),
                    cache_value=load.worth(now),
                    draining_since=parse_rfc3339(since) if since else None,
                )
            )
        return replicas

    async def _resize(
        self, revision: Revision, deployment: Deployment, pods: Iterable[Pod], plan: ScaleIn, applied: Applied
    ) -> None:
        """Who is to go is marked first, so that the ReplicaSet takes those."""
        namespace, now = revision.key.namespace, rfc3339(self._clock.now())
        marks: dict[str, dict[str, str | None]] = {name: {DRAINING: now} for name in plan.drain}
        marks |= {name: {DRAINING: None, DELETION_COST: LAST_TO_GO} for name in plan.keep}
        marks |= {name: {DELETION_COST: FIRST_TO_GO} for name in plan.leave}
        known = {pod.metadata.name: pod.metadata.annotations for pod in pods}
        for name, mark in marks.items():
            if any(known[name].get(key) != value for key, value in mark.items()):
                with contextlib.suppress(NotFound):
                    await self._cluster.patch(Pod, name, namespace, {"metadata": {"annotations": mark}})
        before = replicas_of(deployment)
        if plan.size != before:
            patch = {"spec": {"replicas": plan.size}}
            await self._cluster.patch(Deployment, deployment.metadata.name, namespace, patch)
            why = revision.decisions[-1].reasons if revision.decisions else (applied.reason,)
            self._say(revision, f"{revision.key.name} from {before} to {plan.size} pods: {'; '.join(why)}")

    def _say(
        self,
        revision: Revision,
        message: str,
        type: Literal["Normal", "Warning"] = "Normal",
        reason: str = "RevisionScaled",
    ) -> None:
        service = self._cache.get(InferenceService, revision.service.name, revision.service.namespace)
        if service is not None:
            self._recorder.event(service, type, reason, message)

    async def _tell(
        self, revision: Revision, scaler: PodAutoscaler, pods: Iterable[Pod], applied: Applied, room: Room
    ) -> None:
        before, ready = scaler.status, sum(ready_since(pod) is not None for pod in pods)
        least = threshold(revision.settings, initialized=revision.initialized, reachable=revision.reachable)
        becomes = revision.become(applied.wanted, ready, self._clock.monotonic())
        wanted = before.desired_scale if applied.wanted == UNKNOWN else applied.wanted
        status = PodAutoscalerStatus(
            observed_generation=scaler.metadata.generation or None,
            desired_scale=wanted,
            actual_scale=ready,
            mode=mode_of(applied.wanted, revision.excess, inactive=becomes[0] == "inactive"),
            num_activators=activators(revision.settings, ready),
            conditions=conditions_of(
                before.conditions,
                becomes,
                ready=ready,
                least=least,
                refusal=room.refusal,
                now=self._clock.now(),
            ),
            cold_start=self._starts.of(revision.key),
            sleep=revision.sleep(self._starts.of(revision.key)),
            decisions=revision.told(),
        )
        if room.refusal and not any(c.message == room.refusal for c in before.conditions):
            self._say(revision, f"{revision.key.name}: {room.refusal}", "Warning", "InsufficientRoom")
        if status != before:
            await self._cluster.replace(msgspec.structs.replace(scaler, status=status), subresource="status")
