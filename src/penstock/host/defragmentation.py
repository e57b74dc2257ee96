"""Defragmentation: moves pods as `decide/defragment.py` plans, and takes every move that was begun to its end, also after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import msgspec
from prometheus_client import Counter

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, key_of
from penstock.contracts.devices import GpuType
from penstock.decide.defragment import Defragmentation, Move, Scene
from penstock.decide.defragment_round import plan_round
from penstock.decide.lost_work import grace_s
from penstock.decide.movable import set_of
from penstock.decide.move_budget import Limits, Spent
from penstock.decide.move_step import DRAIN_LIMIT_S, Step, next_step
from penstock.decide.scale_in import DRAINING
from penstock.host.device_book import DeviceBook
from penstock.host.disruption import disrupt
from penstock.host.dry_placement import DryPlacement
from penstock.host.fit_book import FitBook
from penstock.host.move_ledger import NAME, NAMESPACE, MoveLedger
from penstock.host.preemption import GIVING_WAY
from penstock.host.preemption_ledger import history_of
from penstock.host.usual_work import UsualWork
from penstock.kit.clock import Clock
from penstock.kit.errors import Conflict, NotFound
from penstock.kit.timestamps import rfc3339
from penstock.resources.checkpoint import NOTICE, Notice
from penstock.resources.core import Node
from penstock.resources.meta import Resource
from penstock.resources.moving import MOVE, Moving, moving_of
from penstock.resources.pod import Pod
from penstock.resources.workload import Job, ReplicaSet

ROUND_S = 15.0
"""Between two looks whether anything should move."""
START_LIMIT_S = 900.0
"""A successor that is not ready after so long is given up."""
ALL = Key("", "defragmentation")
Streams = Callable[[str], int | None]
"""How many requests are under way at the pod of this name; None where nobody tells."""
Mode = Literal["never", "for-waiting", "always"]
ROUNDS = Counter(
    "penstock_defragmentation_rounds",
    "Looks at whether pods should move, by what came of it: moved, nothing, over-budget.",
    ("outcome",),
)
MOVED = Counter(
    "penstock_defragmentation_moves",
    "Pods moved so that GPUs serve better, by way (surge, checkpoint) and what became of it (begun, done, cancelled).",
    ("way", "outcome"),
)
WON = Counter(
    "penstock_defragmentation_won_gpus",
    "GPUs' worth that became of use, or went to who waited, by pods that moved.",
)


class Rule(NamedTuple):
    """When pods are moved, and how many."""

    mode: Mode = "never"
    limits: Limits = Limits(moves=4, gpu_seconds=600.0)


class DefragmentationController:
    """One key looks for what should move, the others are pods that are on the move. What was begun is ended whatever the rule says."""

    name = "defragmentation"

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        rule: Rule,
        streams: Streams,
        gpu_types: Sequence[GpuType] = (),
        fits: FitBook | None = None,
    ) -> None:
        """See `contracts/controller.py`; `fits` knows whether models of pods that wait fit GPUs."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._rule = rule
        self._streams = streams
        self._book = DeviceBook(cache, gpu_types, fits)
        self._usual = UsualWork()
        self._ledger = MoveLedger(cluster)
        self._next_at = 0.0

    def watches(self) -> tuple[Watch, ...]:
        """Pods; the others only so that the cache knows them."""
        known = (Watch(kind, lambda _: ()) for kind in (ReplicaSet, Job, Node))
        return (Watch(Pod, self._keys), *known, *self._book.watches(lambda _: ()))

    async def reconcile(self, key: Key) -> float | None:
        """One look, or one step of a pod that is on the move."""
        if key != ALL:
            return await self._go_on(key)
        left_s = self._next_at - self._clock.monotonic()
        if left_s <= 0:
            self._next_at = self._clock.monotonic() + ROUND_S
            await self._look()
            left_s = ROUND_S
        return left_s

    def _keys(self, obj: Resource) -> Iterable[Key]:
        own = (key_of(obj),) if MOVE in obj.metadata.annotations else ()
        return own if self._rule.mode == "never" else (ALL, *own)

    async def _look(self) -> None:
        """Plan, spend, then mark what moves."""
        now = self._clock.now()
        listing = await self._cluster.list(Pod)
        pods = [pod for pod in listing.items if pod.status.phase not in ("Succeeded", "Failed")]
        dry = DryPlacement(self._book, pods, self._usual, now)
        spent = await self._ledger.read()
        found = await asyncio.to_thread(
            plan_round,
            pods,
            self._cache.list(ReplicaSet),
            {job.metadata.uid: history_of(job) for job in self._cache.list(Job)},
            scene_of(dry),
            self._rule.limits,
            spent,
            dry.place,
            now,
            only_for_waiting=self._rule.mode == "for-waiting",
        )
        ROUNDS.labels("moved" if found.moves else "over-budget" if found.over_budget else "nothing").inc()
        if found.moves:
            names = tuple(f"{m.pod.metadata.namespace}/{m.pod.metadata.name}" for m in found.moves)
            await self._ledger.enter(
                Spent(at=now, pods=names, gpu_seconds=round(found.cost, 3), because=found.message)
            )
            await self._begin(found, now)

    async def _begin(self, found: Defragmentation, now: float) -> None:
        """All are told before the first one ends: a unit stops as one."""
        won = found.gpus / len(found.moves)
        told = [move for move in found.moves if await self._mark(move, found, won, now)]
        for move in told:
            pod, why = move.pod, f"Moves to node {move.to}: {found.message}"
            self._recorder.event(pod, "Normal", "Moving", why)
            MOVED.labels(move.way.lower(), "begun").inc()
            if move.way == "Checkpoint":
                with suppress(NotFound):
                    pod = await self._cluster.get(Pod, pod.metadata.name, pod.metadata.namespace)
                    if await disrupt(self._cluster, pod, "Defragmentation", why, now):
                        MOVED.labels("checkpoint", "done").inc()
                        WON.inc(won)

    async def _mark(self, move: Move, found: Defragmentation, won: float, now: float) -> bool:
        meta = move.pod.metadata
        marks: dict[str, Any] = {"resourceVersion": meta.resource_version}
        if move.way == "Surge":
            mark = Moving(to=move.to, at=now, until=now + START_LIMIT_S, because=found.message, gpus=won)
            marks["annotations"] = {MOVE: msgspec.json.encode(mark).decode()}
        else:
            by = found.made_for.removeprefix("gang ") or f"{NAMESPACE}/{NAME}"
            deadline = now + grace_s([move.pod])
            notice = Notice(deadline=deadline, reason="Defragmentation", by=by, at=now)
            marks["annotations"] = {NOTICE: msgspec.json.encode(notice).decode()}
            marks["finalizers"] = [*meta.finalizers, GIVING_WAY]
        try:
            await self._cluster.patch(Pod, meta.name, meta.namespace, {"metadata": marks})
        except (Conflict, NotFound):
            return False  # it changed meanwhile: another round will tell
        return True

    async def _go_on(self, key: Key) -> float | None:
        """One step of a server that moves. Reads its ReplicaSet's pods afresh: the last one must not go by an old count."""
        pod = self._cache.get(Pod, key.name, key.namespace)
        if pod is None or MOVE not in pod.metadata.annotations or pod.metadata.deletion_timestamp:
            return None
        owner, now = self._owner(pod), self._clock.now()
        if owner is None:
            await self._annotate(pod, {MOVE: None, DRAINING: None})
            return None
        replicas = (await self._cluster.list(Pod, key.namespace, owner=owner.metadata.uid)).items
        pod = next((one for one in replicas if one.metadata.uid == pod.metadata.uid), pod)
        wished = 1 if owner.spec.replicas is None else owner.spec.replicas
        least_s = owner.spec.min_ready_seconds or 0
        step = next_step(pod, replicas, wished, least_s, now, self._streams(pod.metadata.name))
        await self._take(pod, step, now)
        return step.again_s

    async def _take(self, pod: Pod, step: Step, now: float) -> None:
        mark = moving_of(pod)
        if step.action == "End":
            if await disrupt(self._cluster, pod, "Defragmentation", step.reason, now):
                self._recorder.event(pod, "Normal", "Moved", step.reason)
                MOVED.labels("surge", "done").inc()
                WON.inc(mark.gpus if mark else 0.0)
        elif step.action == "Stay":
            if await self._annotate(pod, {MOVE: None, DRAINING: None}):
                self._recorder.event(pod, "Warning", "MoveCancelled", f"It stays: {step.reason}")
                MOVED.labels("surge", "cancelled").inc()
        elif step.action in ("Drain", "Resume") and mark is not None:
            limit_s = DRAIN_LIMIT_S + START_LIMIT_S if step.action == "Drain" else START_LIMIT_S
            later = msgspec.json.encode(msgspec.structs.replace(mark, until=now + limit_s)).decode()
            since = rfc3339(now) if step.action == "Drain" else None
            await self._annotate(pod, {MOVE: later, DRAINING: since})

    async def _annotate(self, pod: Pod, marks: Mapping[str, str | None]) -> bool:
        patch = {"metadata": {"resourceVersion": pod.metadata.resource_version, "annotations": dict(marks)}}
        try:
            await self._cluster.patch(Pod, pod.metadata.name, pod.metadata.namespace, patch)
        except (Conflict, NotFound):
            return False  # its change brings us back
        return True

    def _owner(self, pod: Pod) -> ReplicaSet | None:
        owned = self._cache.list(ReplicaSet, pod.metadata.namespace)
        return next((one for one in owned if one.metadata.uid == set_of(pod)), None)


def scene_of(dry: DryPlacement) -> Scene:
    """What `decide/defragment.py` is to know."""
    return Scene(stock=dry.stock, requests=dry.requests, worth=dry.worth, mig_demand=dry.leaning.mig_demand)
