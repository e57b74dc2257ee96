"""ScaledObjects on one machine: the shell around `decide/scaled_object*.py`, which is what KEDA's operator is elsewhere.

Polls the triggers of each, moves its target between zero (or idle) and one, writes the autoscaler that does the rest, and answers
that autoscaler's questions for external metrics. What it remembers (opened triggers, failures in a row) is in memory and in status.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import structs, to_builtins

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, key_of, own_key
from penstock.contracts.trigger import Demand
from penstock.decide.scaled_object import Poll, Round, is_paused, poll
from penstock.decide.scaled_object_hpa import plan_hpa
from penstock.decide.scaled_object_metrics import COMPOSITE, Scale, compose, serve
from penstock.decide.scaled_object_status import plan_status, refused_status
from penstock.decide.scaling_conflict import REASON, Horizontal, conflicts
from penstock.host.owned import is_owned
from penstock.host.scale_target import aimed
from penstock.host.trigger_parameters import ParameterReader
from penstock.host.triggers import PluginFinder, TriggerFactory, TriggerSet
from penstock.kit.clock import Clock
from penstock.kit.errors import AlreadyExists, Conflict, NotFound, PlatformError, Unavailable
from penstock.resources import keda
from penstock.resources.autoscaling import HorizontalPodAutoscaler
from penstock.resources.core import ConfigMap, Secret
from penstock.resources.keda import (
    ClusterTriggerAuthentication,
    ScaledObject,
    ScaledObjectStatus,
    TriggerAuthentication,
)
from penstock.resources.meta import LabelSelector, Resource
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment, ReplicaSet

TIMER_S = 0.001
"""A timer may ring this much too early; waiting for the rest would be busy."""
NO_TRIGGERS = TriggerSet({}, (), ())
CHECK_FAILED = "ScaledObjectCheckFailed"
TARGETS: dict[str, type[Deployment] | type[ReplicaSet]] = {
    "Deployment": Deployment,
    "ReplicaSet": ReplicaSet,
}
KNOWN: tuple[type[Resource], ...] = (
    HorizontalPodAutoscaler,
    PodAutoscaler,
    ReplicaSet,
    TriggerAuthentication,
    ClusterTriggerAuthentication,
    Secret,
    ConfigMap,
)
Target = Deployment | ReplicaSet
logger = logging.getLogger(__name__)


class Refused(Exception):
    """The ScaledObject cannot be acted upon: a reason and a message for its condition Ready."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(slots=True)
class _Memory:
    """What is kept of one ScaledObject between polls; `wish` is what it asked for at the last, at `at` (s, monotonic)."""

    uid: str
    wish: object = None
    at: float = 0.0
    triggers: TriggerSet | None = None
    scaled: ScaledObject | None = field(default=None)


class ScaledObjectController:
    """Polls each ScaledObject every `pollingInterval`, and at once when what it asks for changes.

    Implements `contracts.trigger.ExternalMetrics`.
    """

    name = "scaled-object"

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        plugin: PluginFinder,
        demand: Demand,
    ) -> None:
        """See `contracts/controller.py`. `plugin` finds the module of a trigger's type, `demand` is our own."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._factory = TriggerFactory(plugin, demand, ParameterReader(cache), clock)
        self._memory: dict[Key, _Memory] = {}

    def watches(self) -> tuple[Watch, ...]:
        """ScaledObjects and their targets; the rest only so that the cache knows it."""
        return (
            Watch(ScaledObject, own_key),
            Watch(Deployment, self._scalers_of),
            Watch(InferenceService, self._scalers_of_components),
            *(Watch(kind, lambda _: ()) for kind in KNOWN),
        )

    def _scalers_of(self, target: Resource) -> Iterable[Key]:
        """The known ScaledObjects that wait for a target of this name, or scale it."""
        namespace, name = key_of(target)
        return tuple(
            key
            for key, known in self._memory.items()
            if key.namespace == namespace
            and known.scaled is not None
            and known.scaled.spec.scale_target_ref.name == name
        )

    def _scalers_of_components(self, service: Resource) -> Iterable[Key]:
        """The known ScaledObjects that may mean a component of this service: another revision may lead now."""
        namespace, name = key_of(service)
        return tuple(
            key
            for key, known in self._memory.items()
            if key.namespace == namespace
            and known.scaled is not None
            and known.scaled.spec.scale_target_ref.name.startswith(f"{name}-")
        )

    async def reconcile(self, key: Key) -> float | None:
        """One poll, if one is due."""
        scaled = self._cache.get(ScaledObject, key.name, key.namespace)
        if scaled is None:
            await self._forget(key)
            return None
        scaled = aimed(scaled, self._cache)
        if scaled.metadata.deletion_timestamp is not None:
            await self._finalize(scaled)
            await self._forget(key)
            return None
        memory = self._memory.setdefault(key, _Memory(scaled.metadata.uid))
        if memory.uid != scaled.metadata.uid:
            await self._forget(key)
            memory = self._memory[key] = _Memory(scaled.metadata.uid)
        target = self._target(scaled)
        wish = _wish(scaled, target)
        interval = float(scaled.spec.polling_interval or keda.POLLING_INTERVAL_S)
        due_in_s = memory.at + interval - self._clock.monotonic()
        if memory.wish == wish and due_in_s > TIMER_S:
            return due_in_s
        memory.wish, memory.at, memory.scaled = wish, self._clock.monotonic(), scaled
        try:
            await self._poll(memory, await self._held(scaled), target)
        except Refused as refusal:
            await self._refuse(scaled, refusal)
        except PlatformError:
            memory.wish = (
                None  # so that it is tried again with the back-off of errors, not only at the next poll
            )
            raise
        return interval

    async def external(
        self, namespace: str, metric: str, selector: LabelSelector | None
    ) -> tuple[float, ...]:
        """See `contracts/trigger.py`."""
        name = selector.match_labels.get(keda.NAME_LABEL, "") if selector else ""
        memory = self._memory.get(Key(namespace, name))
        if memory is None or memory.scaled is None or memory.triggers is None:
            raise NotFound(f"no ScaledObject {namespace}/{name} offers the metric {metric}")
        scaled, triggers = memory.scaled, memory.triggers
        wanted = triggers.metrics if metric == COMPOSITE else ()
        wanted = wanted or tuple(one for one in triggers.metrics if one.metric == metric)
        if not wanted:
            raise NotFound(f"the ScaledObject {namespace}/{name} has no metric {metric}")
        cached = {f"s{i}-" for i, trigger in enumerate(scaled.spec.triggers) if trigger.use_cached_metrics}
        live = [
            one
            for one in wanted
            if one not in triggers.observed or not any(one.metric.startswith(prefix) for prefix in cached)
        ]
        await triggers.read(live)
        observed = tuple(triggers.observed[one] for one in wanted)
        scale = _scale(self._target(scaled))
        served = (
            compose(scaled.spec, observed, scale)
            if metric == COMPOSITE
            else serve(scaled.spec, observed[0], scale)
        )
        if served.value is None:
            raise Unavailable(served.reason)
        return (served.value,)

    async def close(self) -> None:
        """Let go of all triggers; once no reconcile runs any more."""
        for key in tuple(self._memory):
            await self._forget(key)

    async def _poll(self, memory: _Memory, scaled: ScaledObject, target: Target | None) -> None:
        self._check_rivals(scaled)
        if target is None:
            reference = scaled.spec.scale_target_ref
            raise Refused(
                CHECK_FAILED,
                f"ScaledObject doesn't have correct scaleTargetRef specification: {reference.kind or 'Deployment'}"
                f" {reference.name} does not exist",
            )
        triggers = NO_TRIGGERS if is_paused(scaled) else await self._opened(memory, scaled, target)
        observed = await triggers.read()
        current = await self._cluster.get(type(target), target.metadata.name, target.metadata.namespace)
        scale = _scale(current)
        composite = compose(scaled.spec, observed, scale) if scaled.spec.formula and observed else None
        given = Poll(scaled, scale.replicas, observed, composite)
        decided = poll(given, self._clock.now())
        await self._write_autoscaler(scaled, triggers, decided)
        await self._write_replicas(scaled, current, decided)
        status = plan_status(scaled, decided, observed, triggers.metrics, scale.replicas)
        await self._write_status(scaled, status)

    async def _opened(self, memory: _Memory, scaled: ScaledObject, target: Target) -> TriggerSet:
        """The triggers, anew where what they rest on has changed."""
        assert target.spec.template is not None
        try:
            parameters = self._factory.parameters(scaled, target.spec.template.spec)
            if memory.triggers is not None and memory.triggers.fits(scaled, parameters):
                return memory.triggers
            opened = await self._factory.open(scaled, parameters)
        except PlatformError as error:
            self._recorder.event(scaled, "Warning", "KEDAScalerFailed", error.message)
            message = f"Failed to ensure HPA is correctly created for ScaledObject: {error.message}"
            raise Refused(CHECK_FAILED, message) from None
        opened.remember(scaled.status.health)
        if memory.triggers is not None:
            await memory.triggers.close()
        memory.triggers = opened
        self._recorder.event(scaled, "Normal", "KEDAScalersStarted", "Started scalers watch")
        return opened

    def _check_rivals(self, scaled: ScaledObject) -> None:
        namespace = scaled.metadata.namespace
        rivals: tuple[Horizontal, ...] = (
            *self._cache.list(ScaledObject, namespace),
            *self._cache.list(HorizontalPodAutoscaler, namespace),
            *self._cache.list(PodAutoscaler, namespace),
        )
        for conflict in conflicts(scaled, (aimed(rival, self._cache) for rival in rivals)):
            raise Refused(REASON, conflict.message)

    def _target(self, scaled: ScaledObject) -> Target | None:
        reference = scaled.spec.scale_target_ref
        kind = TARGETS[reference.kind or "Deployment"]
        return self._cache.get(kind, reference.name, scaled.metadata.namespace)

    async def _held(self, scaled: ScaledObject) -> ScaledObject:
        """With KEDA's finalizer, so that the target's size can be restored."""
        meta = scaled.metadata
        if keda.FINALIZER in meta.finalizers:
            return scaled
        patch = {"metadata": {"finalizers": [*meta.finalizers, keda.FINALIZER]}}
        return aimed(await self._cluster.patch(ScaledObject, meta.name, meta.namespace, patch), self._cache)

    async def _write_autoscaler(self, scaled: ScaledObject, triggers: TriggerSet, decided: Round) -> None:
        wanted = plan_hpa(scaled, triggers.metrics)
        namespace = scaled.metadata.namespace
        for old in self._cache.list(HorizontalPodAutoscaler, namespace, owner=scaled.metadata.uid):
            if old.metadata.name != wanted.metadata.name or not decided.autoscaled:
                with contextlib.suppress(NotFound):
                    await self._cluster.delete(HorizontalPodAutoscaler, old.metadata.name, namespace)
        if not decided.autoscaled:
            return
        try:
            await self._cluster.create(wanted)
            return
        except AlreadyExists:
            present = await self._cluster.get(HorizontalPodAutoscaler, wanted.metadata.name, namespace)
        if not is_owned(present, scaled):
            raise Refused(
                CHECK_FAILED, f"the HorizontalPodAutoscaler {wanted.metadata.name} belongs to someone else"
            )
        if (
            present.spec != wanted.spec
            or not wanted.metadata.labels.items() <= present.metadata.labels.items()
        ):
            meta = structs.replace(present.metadata, labels=wanted.metadata.labels)
            await self._cluster.replace(structs.replace(present, metadata=meta, spec=wanted.spec))

    async def _write_replicas(self, scaled: ScaledObject, target: Target, decided: Round) -> None:
        if decided.replicas is not None:
            meta, patch = target.metadata, {"spec": {"replicas": decided.replicas}}
            await self._cluster.patch(type(target), meta.name, meta.namespace, patch)
            logger.info(
                "%s/%s: %d replicas instead of %d: %s; the alternative: %s",
                *(meta.namespace, meta.name, decided.replicas, _scale(target).replicas),
                *("; ".join(decided.reasons), decided.runner_up or "none"),
            )
        if decided.event is not None:
            self._recorder.event(scaled, "Normal", *decided.event)

    async def _write_status(self, scaled: ScaledObject, status: ScaledObjectStatus) -> None:
        self._tell(scaled, status)
        if to_builtins(status) == to_builtins(scaled.status):
            return
        meta = structs.replace(scaled.metadata, resource_version="")  # nobody else writes this status
        with contextlib.suppress(NotFound):
            await self._cluster.replace(
                structs.replace(scaled, metadata=meta, status=status), subresource="status"
            )

    def _tell(self, scaled: ScaledObject, status: ScaledObjectStatus) -> None:
        """Events for conditions that changed."""
        before = {c.type: (c.status, c.message) for c in scaled.status.conditions}
        after = {c.type: (c.status, c.message, c.reason) for c in status.conditions}
        ready, reason = after["Ready"][0], after["Ready"][2]
        if after["Ready"][:2] != before.get("Ready"):
            if ready == "True":
                self._recorder.event(
                    scaled, "Normal", "ScaledObjectReady", "ScaledObject is ready for scaling"
                )
            else:
                failed = reason if reason in (CHECK_FAILED, REASON) else "KEDAScalerFailed"
                self._recorder.event(scaled, "Warning", failed, after["Ready"][1])
        paused = after["Paused"][0] == "True"
        if paused != (before.get("Paused", ("False",))[0] == "True"):
            reason = "ScaledObjectPaused" if paused else "ScaledObjectUnpaused"
            self._recorder.event(scaled, "Normal", reason, after["Paused"][1])

    async def _refuse(self, scaled: ScaledObject, refusal: Refused) -> None:
        await self._write_status(scaled, refused_status(scaled, refusal.reason, refusal.message))

    async def _finalize(self, scaled: ScaledObject) -> None:
        """Stop scaling, restore the size if that is wanted, and let the object go."""
        meta = scaled.metadata
        if keda.FINALIZER not in meta.finalizers:
            return
        for hpa in self._cache.list(HorizontalPodAutoscaler, meta.namespace, owner=meta.uid):
            with contextlib.suppress(NotFound):
                await self._cluster.delete(HorizontalPodAutoscaler, hpa.metadata.name, meta.namespace)
        original, target = scaled.status.original_replica_count, self._target(scaled)
        advanced = scaled.spec.advanced
        if advanced and advanced.restore_to_original_replica_count and original is not None and target:
            with contextlib.suppress(NotFound):
                patch = {"spec": {"replicas": original}}
                await self._cluster.patch(type(target), target.metadata.name, meta.namespace, patch)
        left = [name for name in meta.finalizers if name != keda.FINALIZER]
        with contextlib.suppress(NotFound, Conflict):
            await self._cluster.patch(
                ScaledObject, meta.name, meta.namespace, {"metadata": {"finalizers": left}}
            )
        self._recorder.event(scaled, "Normal", "ScaledObjectDeleted", "ScaledObject was deleted")

    async def _forget(self, key: Key) -> None:
        memory = self._memory.pop(key, None)
        if memory is not None and memory.triggers is not None:
            await memory.triggers.close()


def _scale(target: Target | None) -> Scale:
    if target is None:
        return Scale(0, 0)
    wanted = target.spec.replicas
    return Scale(1 if wanted is None else wanted, target.status.ready_replicas or 0)


def _wish(scaled: ScaledObject, target: Target | None) -> object:
    """What a poll must follow at once: the spec, KEDA's annotations, and whether there is a target."""
    annotations = {
        k: v for k, v in scaled.metadata.annotations.items() if k.startswith("autoscaling.keda.sh/")
    }
    return (scaled.spec, annotations, target is not None)
