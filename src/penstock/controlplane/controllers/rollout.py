"""Rollouts: observe what the gateways saw of a canary and its stable revision; decide; write the Rollout's status.

The share itself is given by the InferenceService controller, which reads that status; so a restart of either goes on where it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, key_of, own_key, owner_keys
from penstock.contracts.exchange import LATENCY_BOUNDS_S, DemandReport, RevisionDemand
from penstock.decide.evidence import observe, total
from penstock.decide.handover import hopeless
from penstock.decide.progression import PAUSED, PROGRESSING, Situation, advance, rollout_name
from penstock.decide.revision import REVISION_LABEL
from penstock.decide.rollout import is_stopped
from penstock.decide.rollout_policy import Chosen, chosen_policy, follows_policy
from penstock.decide.traffic import asked_percent
from penstock.decide.workload import COMPONENTS, ComponentName, component_of
from penstock.kit.clock import Clock
from penstock.kit.errors import AlreadyExists, NotFound
from penstock.resources.meta import ObjectMeta, Resource, controlled_by
from penstock.resources.pod import Pod
from penstock.resources.rollout import (
    RevisionCounts,
    Rollout,
    RolloutPolicy,
    RolloutSpec,
    RolloutStatus,
    SignalCounts,
)
from penstock.resources.serving import ComponentStatus, InferenceService
from penstock.resources.workload import Deployment

FOLD_S = 2.0
"""How often what was seen is looked at and written down; a crash forgets no more than that."""
SETTLE_S = 0.01
"""Most of what changes about a service is none of a rollout's business."""
MAX_SIGNALS = 16
Revision = tuple[str, str]
"""A revision's namespace and name."""


class RolloutController:
    """Keeps a Rollout for each component of each service that follows a policy."""

    name = "rollout"
    settle_s = SETTLE_S

    def __init__(self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock) -> None:
        """`hear` is to be called with each DemandReport: `feed.subscribe(controller.hear)`."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._seen: dict[Revision, RevisionCounts] = {}
        self._heard: dict[Key, tuple[Revision, ...]] = {}
        self._folded: dict[Key, float] = {}

    def hear(self, report: DemandReport) -> None:
        """Count what a gateway saw of the revisions that are compared now; nothing is kept of others."""
        for service in report.services:
            for revision in service.revisions:
                key = (service.namespace, revision.name)
                if key in self._seen:
                    self._seen[key] = total(self._seen[key], _counts(revision))

    def watches(self) -> tuple[Watch, ...]:
        """Services, their rollouts and Deployments, and policies."""
        return (
            Watch(InferenceService, own_key),
            Watch(Rollout, owner_keys("InferenceService")),
            Watch(Deployment, owner_keys("InferenceService")),
            Watch(RolloutPolicy, self._followers),
            Watch(Pod, _nobody),
        )

    async def reconcile(self, key: Key) -> float | None:
        """Observe, decide, apply, for each component."""
        service = self._cache.get(InferenceService, key.name, key.namespace)
        if service is None or service.metadata.deletion_timestamp is not None:
            for name in COMPONENTS:
                self._forget(Key(key.namespace, rollout_name(key.name, name)))
            return None
        follows = follows_policy(service) and not is_stopped(service)
        policies = self._cache.list(RolloutPolicy, key.namespace) if follows else ()
        chosen = chosen_policy(service, policies)
        waits = []
        for name in COMPONENTS:
            if follows and component_of(service, name) is not None:
                waits.append(await self._follow(service, name, chosen))
            else:
                await self._drop(service, name)
        return min((wait_s for wait_s in waits if wait_s is not None), default=None)

    async def _follow(self, service: InferenceService, name: ComponentName, chosen: Chosen) -> float | None:
        rollout = self._own(service, name)
        if rollout is None:
            with contextlib.suppress(AlreadyExists):
                await self._cluster.create(_rollout(service, name))
            return FOLD_S
        key, before = key_of(rollout), rollout.status
        status = before
        taken: dict[Revision, RevisionCounts] = {}
        now_is = self._situation(service, name, rollout)
        compares = before.phase in (PROGRESSING, PAUSED)
        if compares and chosen.spec is not None and self._is_due(key):
            taken = self._take(key.namespace, before)
            status = observe(chosen.spec, before, *taken.values())
        done = advance(chosen, status, now_is, self._clock.now())
        after = msgspec.structs.replace(done.status, observed_generation=rollout.metadata.generation)
        if after != before:
            try:
                written = msgspec.structs.replace(rollout, status=after)
                await self._cluster.replace(written, subresource="status")
            except BaseException:
                self._put_back(taken)
                raise
        self._listen(key, before, after)
        if done.event is not None:
            kind, reason, message = done.event
            self._recorder.event(service, "Warning" if kind == "Warning" else "Normal", reason, message)
        waits = [done.again_s, FOLD_S if after.phase in (PROGRESSING, PAUSED) else None]
        return min((wait_s for wait_s in waits if wait_s is not None), default=None)

    def _situation(self, service: InferenceService, name: ComponentName, rollout: Rollout) -> Situation:
        component = component_of(service, name)
        assert component is not None, "only components that exist have a rollout"
        status = service.status.components.get(name, ComponentStatus())
        return Situation(
            newest=status.latest_created_revision,
            latest_ready=status.latest_ready_revision,
            stable=status.latest_rolledout_revision,
            asked=asked_percent(service, component),
            override=rollout.spec.override,
            stuck=self._why_stuck(service, status.latest_created_revision),
        )

    def _why_stuck(self, service: InferenceService, newest: str) -> str:
        """Why no pod of the newest revision answers, "" where one does, or may only need time."""
        deployment = self._cache.get(Deployment, newest, service.metadata.namespace)
        if deployment is None or deployment.status.available_replicas:
            return ""
        pods = self._cache.list(Pod, service.metadata.namespace, labels=f"{REVISION_LABEL}={newest}")
        if why := hopeless(pods):
            return why
        late = next((c for c in deployment.status.conditions if c.reason == "ProgressDeadlineExceeded"), None)
        return (late.message or "it was not ready within its progress deadline") if late is not None else ""

    def _is_due(self, key: Key) -> bool:
        now = self._clock.monotonic()
        if now < self._folded.get(key, now - FOLD_S) + FOLD_S:
            return False
        self._folded[key] = now
        return True

    def _take(self, namespace: str, status: RolloutStatus) -> dict[Revision, RevisionCounts]:
        """What was seen of the stable revision and of the canary since the last time, in that order."""
        keys = ((namespace, status.stable), (namespace, status.canary))
        taken = {key: self._seen.get(key, RevisionCounts()) for key in keys}
        self._seen |= dict.fromkeys(keys, RevisionCounts())
        return taken

    def _put_back(self, taken: dict[Revision, RevisionCounts]) -> None:
        for revision, counts in taken.items():
            self._seen[revision] = total(counts, self._seen.get(revision, RevisionCounts()))

    def _listen(self, key: Key, before: RolloutStatus, after: RolloutStatus) -> None:
        """From now on to these two revisions, and to those before no more; a step begins with what comes after it."""
        begins = (before.phase, before.canary, before.step) != (after.phase, after.canary, after.step)
        if begins or after.phase not in (PROGRESSING, PAUSED):
            self._forget(key)
        if after.phase in (PROGRESSING, PAUSED):
            self._heard[key] = ((key.namespace, after.stable), (key.namespace, after.canary))
            for revision in self._heard[key]:
                self._seen.setdefault(revision, RevisionCounts())

    def _forget(self, key: Key) -> None:
        self._folded.pop(key, None)
        for revision in self._heard.pop(key, ()):
            self._seen.pop(revision, None)

    async def _drop(self, service: InferenceService, name: ComponentName) -> None:
        """Without a policy, or without the component, there is nothing to roll out."""
        rollout = self._own(service, name)
        if rollout is None:
            return
        self._forget(key_of(rollout))
        with contextlib.suppress(NotFound):
            await self._cluster.delete(Rollout, rollout.metadata.name, rollout.metadata.namespace)

    def _own(self, service: InferenceService, name: ComponentName) -> Rollout | None:
        own = rollout_name(service.metadata.name, name)
        owned = self._cache.list(Rollout, service.metadata.namespace, owner=service.metadata.uid)
        return next((rollout for rollout in owned if rollout.metadata.name == own), None)

    def _followers(self, policy: Resource) -> Iterable[Key]:
        services = self._cache.list(InferenceService, policy.metadata.namespace)
        return tuple(key_of(service) for service in services if follows_policy(service))


def _nobody(pod: Resource) -> Iterable[Key]:
    """Pods are looked at, but what happens to them shows in their Deployments."""
    return ()


def _rollout(service: InferenceService, name: ComponentName) -> Rollout:
    meta = service.metadata
    owner = controlled_by(service)
    return Rollout(
        metadata=ObjectMeta(
            name=rollout_name(meta.name, name), namespace=meta.namespace, owner_references=(owner,)
        ),
        spec=RolloutSpec(service=meta.name, component=name),
    )


def _counts(seen: RevisionDemand) -> RevisionCounts:
    """As a gateway told them; what cannot be is taken for nothing."""
    return RevisionCounts(
        requests=max(0, seen.ended),
        failures=max(0, seen.failures),
        ttft=_plausible(seen.ttft),
        inter_token=_plausible(seen.itl),
        signals=tuple(
            SignalCounts(name=signal.name, exceeded=max(0, signal.exceeded), total=max(0, signal.total))
            for signal in seen.signals[:MAX_SIGNALS]
        ),
    )


def _plausible(counts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(0, count) for count in counts[: len(LATENCY_BOUNDS_S) + 1])
