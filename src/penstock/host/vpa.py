"""Vertical pod autoscalers on one machine: recommender and updater of VPA, the shell around `decide/vpa*.py`.

Each minute it takes one sample of every container of the target, learns of those that ran out of memory, recommends, and evicts
what the rules allow. What was learnt is checkpointed, so that a restart keeps it. `host/vpa_sizing.py` gives new pods their size.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from msgspec import structs, to_builtins

from penstock.contracts.cluster import Cluster, Preconditions
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key
from penstock.decide.scaling_conflict import conflicts, refused_resources
from penstock.decide.vpa import is_ours, update_mode
from penstock.decide.vpa_checkpoint import updated
from penstock.decide.vpa_status import refusal, vpa_status
from penstock.decide.vpa_update import plan_evictions
from penstock.host.scale import selector_text
from penstock.host.scale_target import aimed
from penstock.host.vpa_knowledge import Knowledge, Usages
from penstock.host.vpa_sizing import AUTOSCALERS, rivals
from penstock.kit.clock import Clock
from penstock.kit.errors import AlreadyExists, Conflict, NotFound
from penstock.resources.pod import Pod
from penstock.resources.serving import InferenceService
from penstock.resources.vpa import (
    RECREATE,
    VerticalPodAutoscaler,
    VerticalPodAutoscalerCheckpoint,
    VerticalPodAutoscalerStatus,
)
from penstock.resources.workload import Deployment, ReplicaSet

LOOP_S = 60.0
CHECKPOINT_EVERY_S = 300.0
TARGETS: dict[str, type[Deployment] | type[ReplicaSet]] = {"Deployment": Deployment, "ReplicaSet": ReplicaSet}


@dataclass(slots=True)
class _Known:
    """Of one autoscaler. `looped_at` and `written_at` are in seconds since the epoch."""

    uid: str
    knowledge: Knowledge
    looped_at: float | None = None
    written_at: float | None = None


class VpaController:
    """Recommends and updates each minute, and looks again at once when an autoscaler's wish changes."""

    name = "vertical-pod-autoscaler"

    def __init__(
        self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock, *, usages: Usages
    ) -> None:
        """See `contracts/controller.py`. `usages` says what each container of a pod uses, and when that was measured."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._usages = usages
        self._known: dict[Key, _Known] = {}

    def watches(self) -> tuple[Watch, ...]:
        """Autoscalers; the rest only so that the cache knows it: a rival that goes is noticed within a minute."""
        others = (
            *AUTOSCALERS,
            Pod,
            Deployment,
            ReplicaSet,
            InferenceService,
            VerticalPodAutoscalerCheckpoint,
        )
        silent = (Watch(kind, lambda _: ()) for kind in others if kind is not VerticalPodAutoscaler)
        return (Watch(VerticalPodAutoscaler, own_key), *silent)

    async def reconcile(self, key: Key) -> float | None:
        """One loop if a minute has passed; else only what follows at once from a changed wish."""
        autoscaler = self._cache.get(VerticalPodAutoscaler, key.name, key.namespace)
        if (
            autoscaler is None
            or autoscaler.metadata.deletion_timestamp is not None
            or not is_ours(autoscaler)
        ):
            self._known.pop(key, None)
            return None
        autoscaler = aimed(autoscaler, self._cache)
        known, now = self._remembered(key, autoscaler), self._clock.now()
        target, problem = self._target(autoscaler)
        pods = self._pods(target) if target is not None else ()
        passed_s = LOOP_S if known.looped_at is None else now - known.looped_at
        is_due = not 0 <= passed_s < LOOP_S
        news: tuple[str, ...] = ()
        if is_due:
            known.looped_at, passed_s = now, 0.0
            news = known.knowledge.learn(autoscaler, pods, self._usages)
            for message in news:
                self._recorder.event(autoscaler, "Warning", "OutOfMemory", message)
        status = self._status(autoscaler, known.knowledge, target, problem, pods, now)
        if is_due:
            await self._checkpoint(autoscaler, known, now, at_once=bool(news))
        await self._write(autoscaler, status)
        if is_due and target is not None and update_mode(autoscaler) == RECREATE:
            await self._update(structs.replace(autoscaler, status=status), target)
        return LOOP_S - passed_s

    def _remembered(self, key: Key, autoscaler: VerticalPodAutoscaler) -> _Known:
        """What is known; after a restart, what was written down."""
        uid = autoscaler.metadata.uid
        known = self._known.get(key)
        if known is None or known.uid != uid:
            checkpoints = self._cache.list(VerticalPodAutoscalerCheckpoint, key.namespace, owner=uid)
            known = self._known[key] = _Known(uid, Knowledge(checkpoints))
        return known

    def _target(self, autoscaler: VerticalPodAutoscaler) -> tuple[Deployment | ReplicaSet | None, str]:
        """The target, or why it cannot be read."""
        reference, namespace = autoscaler.spec.target_ref, autoscaler.metadata.namespace
        kind = TARGETS.get(reference.kind) if reference.api_version in ("apps/v1", "") else None
        if kind is None:
            what = f"{reference.api_version} {reference.kind}".strip()
            return None, f"{what} cannot be sized, apps/v1 {' and '.join(TARGETS)} can"
        target = self._cache.get(kind, reference.name, namespace)
        return (
            target,
            "" if target is not None else f"{reference.kind} {namespace}/{reference.name} not found",
        )

    def _pods(self, target: Deployment | ReplicaSet) -> tuple[Pod, ...]:
        selector = selector_text(to_builtins(target.spec.selector))
        return self._cache.list(Pod, target.metadata.namespace, labels=selector) if selector else ()

    def _status(
        self,
        autoscaler: VerticalPodAutoscaler,
        knowledge: Knowledge,
        target: Deployment | ReplicaSet | None,
        problem: str,
        pods: tuple[Pod, ...],
        now: float,
    ) -> VerticalPodAutoscalerStatus:
        names = {container.name for container in target.spec.template.spec.containers} if target else set()
        return vpa_status(
            autoscaler,
            knowledge.recommendation(autoscaler, sorted(names), now),
            conflicts(autoscaler, rivals(self._cache, autoscaler.metadata.namespace)),
            pods=len(pods),
            target_problem=problem,
            now=now,
        )

    async def _write(self, autoscaler: VerticalPodAutoscaler, status: VerticalPodAutoscalerStatus) -> None:
        if status == autoscaler.status:
            return
        refused = refusal(status)
        if refused and refused != refusal(autoscaler.status):
            reason = next(c.reason for c in status.conditions if c.message == refused)
            self._recorder.event(autoscaler, "Warning", reason, refused)
        with contextlib.suppress(NotFound):
            await self._cluster.replace(structs.replace(autoscaler, status=status), subresource="status")

    async def _checkpoint(
        self, autoscaler: VerticalPodAutoscaler, known: _Known, now: float, *, at_once: bool
    ) -> None:
        """Now and then, and when something was learnt that does not show again."""
        if known.written_at is not None and 0 <= now - known.written_at < CHECKPOINT_EVERY_S and not at_once:
            return
        written = known.knowledge.checkpoints(autoscaler, now)
        for fresh in written:
            meta = fresh.metadata
            stored = self._cache.get(VerticalPodAutoscalerCheckpoint, meta.name, meta.namespace)
            with contextlib.suppress(AlreadyExists, Conflict, NotFound):  # the next one tells as much
                if stored is None:
                    await self._cluster.create(fresh)
                elif stored.metadata.owner_references == meta.owner_references:
                    await self._cluster.replace(updated(stored, fresh))
        if written:
            known.written_at = now

    async def _update(self, autoscaler: VerticalPodAutoscaler, target: Deployment | ReplicaSet) -> None:
        """Evict what needs another size, by replica set; from a fresh list, for the cache may lag behind our own evictions."""
        refused = refused_resources(conflicts(autoscaler, rivals(self._cache, autoscaler.metadata.namespace)))
        selector = selector_text(to_builtins(target.spec.selector))
        listing = await self._cluster.list(Pod, target.metadata.namespace, labels=selector)
        for replica_set in self._cache.list(ReplicaSet, target.metadata.namespace):
            owner = replica_set.metadata.uid
            own = tuple(p for p in listing.items if any(r.uid == owner for r in p.metadata.owner_references))
            if not own:
                continue
            plan = plan_evictions(autoscaler, own, replica_set.spec.replicas or 0, self._clock.now(), refused)
            for pod, why in zip(plan.pods, plan.why, strict=True):
                await self._evict(autoscaler, pod, why)

    async def _evict(self, autoscaler: VerticalPodAutoscaler, pod: Pod, why: str) -> None:
        meta = pod.metadata
        with contextlib.suppress(NotFound, Conflict):
            await self._cluster.delete(
                Pod, meta.name, meta.namespace, preconditions=Preconditions(uid=meta.uid)
            )
            text = f"Pod was evicted by VPA Updater to apply resource recommendation: {why}"
            self._recorder.event(pod, "Normal", "EvictedByVPA", text)
            self._recorder.event(autoscaler, "Normal", "EvictedPod", f"{meta.name}: {why}")
