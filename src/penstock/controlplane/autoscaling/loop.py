"""Scales revisions by their requests: hears gateways, ticks the law of each revision, applies what comes out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping

from penstock.contracts.controller import Cache, Key
from penstock.contracts.exchange import DemandReport, RevisionDemand, ServiceDemand
from penstock.controlplane.autoscaling.applying import Applier
from penstock.controlplane.autoscaling.counting import PodCounts, revision_of
from penstock.controlplane.autoscaling.laws import Pods
from penstock.controlplane.autoscaling.revision import Revision
from penstock.controlplane.engine_metrics import EngineMetrics
from penstock.controlplane.feed import Feed
from penstock.controlplane.informer import InformerCache
from penstock.controlplane.starts import Starts
from penstock.decide.replica_set import is_active, ready_since
from penstock.decide.revision import REVISION_LABEL
from penstock.decide.sampling import Held, Stat, recorded, sample_size
from penstock.kit.clock import Clock
from penstock.kit.errors import PlatformError
from penstock.resources.autoscaler_config import (
    CONFIG_NAME,
    CONFIG_NAMESPACE,
    DEFAULTS,
    AutoscalerConfig,
    parse_config,
)
from penstock.resources.core import ConfigMap, PriorityClass
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.serving import InferenceService

ROUND_S = 1.0
"""How often it is looked for revisions whose tick is due; ticks themselves are 2 s apart by default."""
STALE_S = 3.0
"""A gateway reports each second; after so long without one it is taken for gone."""
SLICE = 256
"""Ticks between two moments for others."""
AT_ONCE = 16
"""Revisions that are applied at the same time."""
SOON_S = 0.01
"""The least wait: the rest of a subtraction would be one that never ends in virtual time."""
NO_DEMAND = RevisionDemand(name="")
logger = logging.getLogger(__name__)


class Autoscaler:
    """One for all PodAutoscalers; a request for a sleeping revision does not wait for the next round."""

    def __init__(
        self, cache: InformerCache, feed: Feed, applier: Applier, starts: Starts, clock: Clock
    ) -> None:
        """Subscribes; nothing is decided before `run`."""
        self._cache: Cache = cache
        self._applier = applier
        self._starts = starts
        self._clock = clock
        self._metrics = EngineMetrics()
        self._counts = PodCounts()
        self._config = DEFAULTS
        self._revisions: dict[Key, Revision] = {}
        self._of_service: dict[Key, dict[str, Revision]] = {}
        self._heard_at: dict[str, float] = {}
        self._heard_of: dict[str, set[Key]] = {}
        self._asked = asyncio.Event()
        self._kinds = (PodAutoscaler, Pod, ConfigMap, InferenceService)
        cache.watch(PodAutoscaler, self._scaler_changed)
        cache.watch(Pod, self._counts.pod_changed)
        cache.watch(Pod, self._pod_changed)
        cache.watch(Pod, starts.pod_changed)
        cache.watch(ConfigMap, self._config_changed)
        cache.watch(InferenceService, lambda before, after: None)
        cache.watch(PriorityClass, lambda before, after: None)
        feed.subscribe(self.report)
        self._synced = cache.wait_synced

    async def run(self) -> None:
        """Until cancelled."""
        await self._synced(self._kinds)
        while True:
            began = self._clock.monotonic()
            self._asked.clear()
            await self._round(began)
            left_s = ROUND_S - (self._clock.monotonic() - began)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, left_s)):
                    await self._asked.wait()

    def report(self, report: DemandReport) -> None:
        """From a gateway, each second or at once."""
        now = self._clock.monotonic()
        self._heard_at[report.gateway] = now
        heard: set[Key] = set()
        for demand in report.services:
            revisions = self._behind(demand)
            if revisions:
                self._take(report, demand, revisions, now)
                heard.update(revision.key for revision in revisions.values())
        for key in self._heard_of.get(report.gateway, set()) - heard:
            if key in self._revisions:
                self._revisions[key].demand.quiet(report.gateway)
        self._heard_of[report.gateway] = heard

    def _behind(self, demand: ServiceDemand) -> dict[str, Revision]:
        """The revisions of what was asked: a service's entry, or the predictor behind its transformer, which has a route of its own."""
        name, component = demand.name, "predictor"
        service = self._cache.get(InferenceService, name, demand.namespace)
        if service is None:
            name = name.removesuffix("-predictor")
        elif service.spec.transformer is not None:
            component = "transformer"
        known = self._of_service.get(Key(demand.namespace, name), {})
        return {each: revision for each, revision in known.items() if revision.component == component}

    def _take(
        self, report: DemandReport, demand: ServiceDemand, revisions: Mapping[str, Revision], now: float
    ) -> None:
        """One service's part of a report; those that wait are shared out as the traffic is."""
        seen = {each.name: each for each in demand.revisions}
        waiting = max(0.0, demand.in_flight - sum(each.in_flight for each in demand.revisions))
        shares = self._shares(*next(iter(revisions.values())).service, revisions)
        for name, revision in revisions.items():
            revision.rise(now)
            share = shares.get(name, 0.0)
            held = Held(
                waiting * share, demand.queue_wait_s if share else 0.0, self._counts.of(revision.key).ready
            )
            revision.demand.report(report.gateway, seen.get(name, NO_DEMAND), held, report.window_s, now)
            asked_by_tag = name in seen and seen[name].wanted
            wanted = asked_by_tag or (share and (demand.wake or demand.waiting))
            if wanted and revision.desired <= 0:
                revision.demand.poke(report.gateway, now)
                revision.next_tick = now
                self._asked.set()

    def _shares(self, namespace: str, name: str, revisions: Iterable[str]) -> dict[str, float]:
        """Of the service's traffic, by revision, from 0 to 1; all of it where it has but one revision."""
        service = self._cache.get(InferenceService, name, namespace)
        targets = [t for part in service.status.components.values() for t in part.traffic] if service else []
        shares = {target.revision_name: (target.percent or 0) / 100 for target in targets}
        return shares or dict.fromkeys(revisions, 1.0)

    async def _round(self, now: float) -> None:
        """Tick what is due, then apply what has changed."""
        self._forget_gateways(now)
        await self._decide(now)
        dirty = [revision for revision in self._revisions.values() if revision.dirty]
        for start in range(0, len(dirty), AT_ONCE):
            await asyncio.gather(*(self._apply(revision) for revision in dirty[start : start + AT_ONCE]))

    async def _decide(self, now: float) -> None:
        due = [
            revision for revision in self._revisions.values() if self._heard_at and revision.next_tick <= now
        ]
        for number, revision in enumerate(due):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            await self._tick(revision, now)

    async def _tick(self, revision: Revision, now: float) -> None:
        if revision.settings.metric == "kv-cache-use":
            await self._fill(revision, now)
        else:
            revision.demand.silence(max(self._heard_at.values()))
        pods = self._counted(revision)
        shares = self._shares(*revision.service, (revision.key.name,))
        revision.share(shares.get(revision.key.name, 0.0), pods.ready, now)
        revision.tick(pods, now, self._clock.now())
        revision.rest(pods, now)

    async def _fill(self, revision: Revision, now: float) -> None:
        """Ask engines themselves, the oldest first, and others for those that do not answer; a look at too few is none."""
        pods = sorted(filter(_is_ready, self._pods(revision)), key=lambda pod: ready_since(pod) or 0.0)
        size = sample_size(len(pods))
        uses = await self._metrics.read(pods[:size])
        if len(uses) < size:
            uses |= await self._metrics.read(pods[size:])
        seen = recorded([Stat(use) for use in uses.values()], len(pods))
        if seen is not None:
            revision.demand.fill(100 * seen.concurrency, now)

    async def _apply(self, revision: Revision) -> None:
        revision.dirty = False
        try:
            again_s = await self._applier.apply(revision)
        except PlatformError as error:
            revision.dirty = True
            logger.warning("%s/%s is not scaled now: %s", *revision.key, error)
            return
        if again_s is not None:
            asyncio.get_running_loop().call_later(max(again_s, SOON_S), self._again, revision)

    def _again(self, revision: Revision) -> None:
        revision.dirty = True
        self._asked.set()

    def _pods(self, revision: Revision) -> tuple[Pod, ...]:
        labels = f"{REVISION_LABEL}={revision.key.name}"
        return self._cache.list(Pod, revision.key.namespace, labels=labels)

    def _counted(self, revision: Revision) -> Pods:
        active, ready = self._counts.of(revision.key)
        known = self._starts.of(revision.key)
        return Pods(ready, active - ready, known.expected_s if known else 0.0)

    def _forget_gateways(self, now: float) -> None:
        """Those that are silent: nothing is known of what they have under way, and silence of all of them is no lack of demand."""
        for gateway in [name for name, heard_at in self._heard_at.items() if now - heard_at > STALE_S]:
            del self._heard_at[gateway]
            self._heard_of.pop(gateway, None)
            for revision in self._revisions.values():
                revision.rise(now)
                revision.demand.gone(gateway)

    def _scaler_changed(self, before: Resource | None, after: Resource | None) -> None:
        if not isinstance(after, PodAutoscaler):
            if before is not None:
                self._drop(Key(before.metadata.namespace, before.metadata.name))
            return
        key, now = Key(after.metadata.namespace, after.metadata.name), self._clock.monotonic()
        known = self._revisions.get(key)
        if known is None:
            revision = Revision(after, self._config, now, self._clock.now())
            self._revisions[key] = revision
            self._of_service.setdefault(revision.service, {})[key.name] = revision
            self._starts.follow(key, after.status.cold_start)
            self._asked.set()
        elif isinstance(before, PodAutoscaler) and _asks(before) != _asks(after):
            known.adapt(after, self._config, now)
            self._asked.set()

    def _drop(self, key: Key) -> None:
        revision = self._revisions.pop(key, None)
        self._starts.forget(key)
        if revision is not None:
            siblings = self._of_service[revision.service]
            siblings.pop(key.name, None)
            if not siblings:
                del self._of_service[revision.service]

    def _pod_changed(self, before: Resource | None, after: Resource | None) -> None:
        pod = after if after is not None else before
        assert pod is not None
        revision = self._revisions.get(revision_of(pod))
        if revision is not None:
            revision.rise(self._clock.monotonic())
            revision.dirty = True
            self._asked.set()

    def _config_changed(self, before: Resource | None, after: Resource | None) -> None:
        changed = after if after is not None else before
        assert isinstance(changed, ConfigMap)
        if (changed.metadata.namespace, changed.metadata.name) != (CONFIG_NAMESPACE, CONFIG_NAME):
            return
        self._config = _read(after if isinstance(after, ConfigMap) else None)
        for scaler in self._cache.list(PodAutoscaler):
            known = self._revisions.get(Key(scaler.metadata.namespace, scaler.metadata.name))
            if known is not None:
                known.adapt(scaler, self._config, self._clock.monotonic())
        self._asked.set()


def _read(config: ConfigMap | None) -> AutoscalerConfig:
    if config is None:
        return DEFAULTS
    read, problems = parse_config(config.data)
    for key, message in problems:
        logger.warning(
            "ConfigMap %s/%s, %s: %s; the default holds", CONFIG_NAMESPACE, CONFIG_NAME, key, message
        )
    return read


def _asks(scaler: PodAutoscaler) -> tuple[object, object]:
    """What a user says, without what we write."""
    return scaler.spec, scaler.metadata.annotations


def _is_ready(pod: Pod) -> bool:
    return is_active(pod) and ready_since(pod) is not None
