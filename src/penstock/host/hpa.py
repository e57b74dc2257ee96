"""Horizontal pod autoscalers: the shell around `decide/hpa.py`, which is what Kubernetes' own controller is elsewhere.

What it remembers (recommendations, scale events) is in memory, as in Kubernetes. After a restart the number that runs is the first
recommendation, so it holds for a whole stabilisation window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, cast

from msgspec import structs, to_builtins

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, key_of, own_key
from penstock.decide.hpa import HpaInput, HpaPlan, failed_to_scale, metrics_of, plan_hpa, without_scale
from penstock.decide.hpa_behavior import HpaState
from penstock.decide.hpa_metric import Reading
from penstock.decide.hpa_pods import pod_state
from penstock.decide.hpa_replicas import HpaSettings
from penstock.decide.scaling_conflict import conflicts
from penstock.host.scale import selector_text
from penstock.host.scale_target import aimed
from penstock.kit.clock import Clock
from penstock.kit.errors import Conflict, NotFound, PlatformError
from penstock.resources.autoscaling import (
    CrossVersionObjectReference,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerStatus,
    MetricSpec,
)
from penstock.resources.keda import ScaledObject
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.selectors import matches_label_selector
from penstock.resources.serving import InferenceService
from penstock.resources.vpa import VerticalPodAutoscaler
from penstock.resources.workload import Deployment, ReplicaSet

SYNC_S = 15.0
SOON_S = 0.01
"""What is due so soon is due: the rest of a subtraction would be a wait that never ends in virtual time."""
TARGETS: dict[str, type[Deployment] | type[ReplicaSet]] = {
    "Deployment": Deployment,
    "ReplicaSet": ReplicaSet,
}
RIVALS: tuple[type[ScaledObject], type[PodAutoscaler], type[VerticalPodAutoscaler]] = (
    ScaledObject,
    PodAutoscaler,
    VerticalPodAutoscaler,
)
Target: TypeAlias = Deployment | ReplicaSet


class Metrics(Protocol):
    """Where metrics are read."""

    async def read_all(
        self, metrics: Iterable[MetricSpec], namespace: str, pods: Sequence[Pod]
    ) -> tuple[Reading, ...]:
        """One reading per metric, in order."""
        ...


@dataclass(frozen=True, slots=True)
class _Memory:
    """What is kept of one autoscaler between syncs; `uid` and `generation` say of which, `at` (s) when it last synced."""

    uid: str
    generation: int
    at: float
    state: HpaState


class HpaController:
    """Syncs each autoscaler every 15 s, and as soon as its spec changes."""

    name = "horizontal-pod-autoscaler"

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        metrics: Metrics,
        settings: HpaSettings | None = None,
    ) -> None:
        """See `contracts/controller.py`. `settings` are the flags of Kubernetes' controller manager."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._metrics = metrics
        self._settings = settings or HpaSettings()
        self._memory: dict[Key, _Memory] = {}

    def watches(self) -> tuple[Watch, ...]:
        """Autoscalers; and pods, workloads and other kinds of autoscalers only so that the cache knows them."""
        known = (Pod, Deployment, ReplicaSet, InferenceService, *RIVALS)
        return (Watch(HorizontalPodAutoscaler, own_key), *(Watch(kind, lambda _: ()) for kind in known))

    async def reconcile(self, key: Key) -> float | None:
        """One sync, if one is due."""
        hpa = self._cache.get(HorizontalPodAutoscaler, key.name, key.namespace)
        if hpa is None or hpa.metadata.deletion_timestamp is not None:
            self._memory.pop(key, None)
            return None
        hpa = aimed(hpa, self._cache)
        meta, known = hpa.metadata, self._memory.get(key)
        now = self._clock.now()
        if known is not None and known.uid != meta.uid:
            known = None
        if known is None and hpa.status.observed_generation == meta.generation:
            # An earlier process synced it. Usage is not known yet: there is nothing to say for one interval.
            known = self._memory[key] = _Memory(meta.uid, meta.generation, now, HpaState())
        if known is not None and known.generation == meta.generation:
            due_in_s = known.at + SYNC_S - now
            if SOON_S < due_in_s <= SYNC_S:
                return due_in_s
        before = known.state if known else HpaState()
        state = await self._sync(hpa, before, now)
        self._memory[key] = _Memory(meta.uid, meta.generation, now, state)
        return SYNC_S

    async def _sync(self, hpa: HorizontalPodAutoscaler, before: HpaState, now: float) -> HpaState:
        """The state after it. A target that changed meanwhile is left to the next sync."""
        try:
            target = await self._target(hpa)
        except NotFound as error:
            self._recorder.event(hpa, "Warning", "FailedGetScale", str(error))
            await self._write(hpa, without_scale(hpa.status, str(error), now))
            return before
        seen = await self._look(hpa, target)
        plan = plan_hpa(seen, before, now)
        if plan.rescale:
            plan = await self._scale(target, seen, plan, before, now)
        for type_, reason, message in plan.events:
            self._recorder.event(hpa, cast("Literal['Normal', 'Warning']", type_), reason, message)
        await self._write(hpa, plan.status)
        return plan.state

    async def _target(self, hpa: HorizontalPodAutoscaler) -> Target:
        """Fresh from the store: a number that lags behind would be taken for somebody else's wish."""
        reference = hpa.spec.scale_target_ref
        kind = _kind(reference)
        if kind is None:
            group = reference.api_version.rpartition("/")[0]
            raise NotFound(
                f'no matches for kind "{reference.kind}" in group "{group}"',
                hint=f"only these are scaled: {', '.join(TARGETS)} (apps/v1)",
            )
        return await self._cluster.get(kind, reference.name, hpa.metadata.namespace)

    async def _look(self, hpa: HorizontalPodAutoscaler, target: Target) -> HpaInput:
        spec, namespace = hpa.spec, hpa.metadata.namespace
        selector = selector_text(to_builtins(target.spec.selector))
        pods = self._cache.list(Pod, namespace, labels=selector) if selector else ()
        wanted = 1 if target.spec.replicas is None else target.spec.replicas
        asleep = wanted == 0 and spec.min_replicas != 0
        readings: tuple[Reading, ...] = ()
        if not asleep:
            readings = await self._metrics.read_all(metrics_of(spec), namespace, pods)
        return HpaInput(
            spec=spec,
            wanted=wanted,
            existing=target.status.replicas,
            pods=tuple(map(pod_state, pods)),
            readings=readings,
            status=hpa.status,
            namespace=namespace,
            forbidden=self._forbidden(hpa, selector, pods),
            rival=self._rival(hpa),
            settings=self._settings,
        )

    def _forbidden(
        self, hpa: HorizontalPodAutoscaler, selector: str, pods: Sequence[Pod]
    ) -> tuple[str, str] | None:
        """Reason and message, if the pods cannot be told, or another HPA has some of them: the two stop each other, as in Kubernetes."""
        if not selector:
            return "InvalidSelector", "the HPA target's scale is missing a selector"
        others = [
            f"{other.metadata.namespace}/{other.metadata.name}"
            for other in self._cache.list(HorizontalPodAutoscaler, hpa.metadata.namespace)
            if key_of(other) == key_of(hpa) or self._has_any(other, pods)
        ]
        if len(others) < 2:
            return None
        message = f"pods by selector {selector} are controlled by multiple HPAs: [{' '.join(others)}]"
        return "AmbiguousSelector", message

    def _rival(self, hpa: HorizontalPodAutoscaler) -> str:
        """Of autoscalers of different kinds, the first holds."""
        listed = (rival for kind in RIVALS for rival in self._cache.list(kind, hpa.metadata.namespace))
        rivals = [aimed(rival, self._cache) for rival in listed]
        found = conflicts(hpa, rivals)
        return found[0].message if found else ""

    def _has_any(self, other: HorizontalPodAutoscaler, pods: Sequence[Pod]) -> bool:
        reference = aimed(other, self._cache).spec.scale_target_ref
        kind = _kind(reference)
        target = self._cache.get(kind, reference.name, other.metadata.namespace) if kind else None
        return target is not None and any(
            matches_label_selector(target.spec.selector, pod.metadata.labels) for pod in pods
        )

    async def _scale(
        self, target: Target, seen: HpaInput, plan: HpaPlan, before: HpaState, now: float
    ) -> HpaPlan:
        """The plan as it came out. A number that somebody else wrote since is not overwritten."""
        meta = target.metadata
        patch = {
            "metadata": {"resourceVersion": meta.resource_version},
            "spec": {"replicas": plan.desired},
        }
        try:
            await self._cluster.patch(type(target), meta.name, meta.namespace, patch, subresource="scale")
        except PlatformError as error:
            return failed_to_scale(seen, plan, before, str(error), now)
        return plan

    async def _write(self, hpa: HorizontalPodAutoscaler, status: HorizontalPodAutoscalerStatus) -> None:
        status = structs.replace(status, observed_generation=hpa.metadata.generation)
        if status == hpa.status:
            return
        try:
            await self._cluster.replace(structs.replace(hpa, status=status), subresource="status")
        except (Conflict, NotFound):
            return  # it was changed or deleted meanwhile, and is synced again for that


def _kind(reference: CrossVersionObjectReference) -> type[Deployment] | type[ReplicaSet] | None:
    """The kind of a target; a reference without a version is taken for apps/v1."""
    if reference.api_version not in ("", "apps/v1"):
        return None
    return TARGETS.get(reference.kind)
