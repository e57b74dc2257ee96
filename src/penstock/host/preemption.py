"""Makes room for pods that fit nowhere: tells those who give way, waits until they are gone, and enters what was lost.

`decide/preemption.py` chooses. A pod that gives way is first marked (notice, finalizer), then deleted with its own grace; the kubelet tells and ends
its processes. Its finalizer is taken off when its loss is in the ledger. Every step is found again after a restart from what is on the pods.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch
from penstock.contracts.devices import GpuType
from penstock.decide.burst import Plan, one_by_one, together
from penstock.decide.checkpoint import Checkpoint, last_verified
from penstock.decide.dry_run import Room
from penstock.decide.gang import gang_of
from penstock.decide.inventory import shares_of
from penstock.decide.lost_work import History, Unit, UnitBook, grace_s, job_of, priority_of, unit_name
from penstock.decide.pod_requests import needs_of, offered
from penstock.decide.preemption import Preemption
from penstock.decide.preemption_ledger import Entry, entry_of
from penstock.decide.prices import MICROS, Price, cost_of, node_part, node_price
from penstock.decide.replica_set import is_ended
from penstock.host.device_book import DeviceBook
from penstock.host.disruption import disrupt
from penstock.host.fit_book import FitBook
from penstock.host.kubelet.checkpoints import CheckpointReader, folder_of
from penstock.host.kubelet.layout import Layout
from penstock.host.placement import is_pending
from penstock.host.preemption_ledger import PreemptionLedger, history_of
from penstock.kit.backoff import delay_s
from penstock.kit.clock import Clock
from penstock.kit.errors import Conflict, NotFound
from penstock.resources.checkpoint import NOTICE, Notice, notice_of
from penstock.resources.core import Node
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod
from penstock.resources.workload import Job

GIVING_WAY = "penstock.dev/preemption"
"""The finalizer that keeps a pod until its loss is in the ledger."""
MAX_ENDING = 8
"""Units that give way at the same time; what else needs room waits its turn."""
LOOK_AGAIN_S = 5.0
FIRST_PAUSE_S, LAST_PAUSE_S = 60.0, 3600.0
"""Before a pod that did not get the room which was made for it may ask for more; twice as long each time."""
ALL = Key("", "preemptions")
EXPLANATION = "Penstock: preempting to accommodate a higher priority pod"


class PreemptionController:
    """One step at a time for all pods, highest priority first and those of one priority together, so that two never ask for the same room."""

    name = "preemption"

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        layout: Layout,
        gpu_types: Sequence[GpuType] = (),
        prices: Sequence[Price] = (),
        fits: FitBook | None = None,
    ) -> None:
        """See `contracts/controller.py`; `prices` are what nodes cost where that is known, `fits` knows where pods' models fit."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._layout = layout
        self._prices = prices
        self._book = DeviceBook(cache, gpu_types, fits)
        self._reader = CheckpointReader()
        self._ledger = PreemptionLedger(cluster)
        self._units = UnitBook()
        self._asked: dict[str, tuple[float, int]] = {}

    def watches(self) -> tuple[Watch, ...]:
        """Pods and nodes; and jobs only so that the cache knows what they went through."""
        return (Watch(Pod, _all), Watch(Node, _all), Watch(Job, lambda _: ()), *self._book.watches(_all))

    async def reconcile(self, key: Key) -> float | None:
        """Settle what is over, end what was told to, then choose for those that wait."""
        await self._ledger.begin()
        if not any(is_waiting(pod) or NOTICE in pod.metadata.annotations for pod in self._cache.list(Pod)):
            return None
        pods = (await self._cluster.list(Pod)).items
        told = [pod for pod in pods if GIVING_WAY in pod.metadata.finalizers]
        for pod in told:
            if _is_gone(pod):
                await self._settle(pod)
            elif pod.metadata.deletion_timestamp is None:
                await self._end(pod)
        return await self._choose(pods)

    async def _choose(self, pods: Sequence[Pod]) -> float | None:
        bound = [pod for pod in pods if pod.spec.node_name and not is_ended(pod)]
        ending = [pod for pod in bound if _is_ending(pod)]
        asked = {notice.by for pod in ending if (notice := notice_of(pod.metadata)) is not None}
        free_units = MAX_ENDING - len(
            {unit_name(pod) for pod in ending if NOTICE in pod.metadata.annotations}
        )
        staying = [pod for pod in bound if not _is_ending(pod)]
        units = self._units.units_of(staying, self._clock.now(), self._histories(), self._ledger.faith)
        room = self._room(staying)
        again_s: float | None = None
        waiting = {pod.metadata.uid for pod in pods if is_waiting(pod)}
        self._asked = {uid: known for uid, known in self._asked.items() if uid in waiting}
        for burst in self._bursts(pods):
            needy, room = self._with_room(burst, units, room)
            plans: list[Plan] = []
            before = units, room
            for group in needy:
                may_ask = free_units > 0 and not any(
                    name_of(pod) in asked or self._is_early(pod) for pod in group
                )
                plan = self._plan(group, units, room, may_ask=may_ask)
                if plan is None:
                    again_s = LOOK_AGAIN_S
                    continue
                plans.append(plan)
                free_units -= len(plan.victims)
                units, room = plan.units, plan.room
            if plans:
                whole = together(_joined(plans), *before, self._clock.now())
                units, room = whole.units, whole.room
                await self._carry_out(whole, {pod.metadata.uid: pod for group in needy for pod in group})
        return again_s

    def _with_room(
        self, burst: Iterable[list[Pod]], units: tuple[Unit, ...], room: Room
    ) -> tuple[list[list[Pod]], Room]:
        """The groups for whom room is neither there nor being made, and what the others leave."""
        needy = []
        for group in burst:
            plan = self._plan(group, units, room, may_ask=False)
            if plan is None:
                needy.append(group)
            else:
                room = plan.room
        return needy, room

    async def _carry_out(self, plan: Plan, pods: Mapping[str, Pod]) -> None:
        """Those that wait are told where; then who gives way is told."""
        for pod in plan.pods:
            await self._nominate(pods[pod.metadata.uid], plan.nodes[pod.metadata.uid])
        for pod, found in plan.chosen:
            await self._tell(pods[pod.metadata.uid], found)

    def _plan(
        self, group: Iterable[Pod], units: tuple[Unit, ...], room: Room, *, may_ask: bool
    ) -> Plan | None:
        """What gives all of a group room; None where that cannot be."""
        plain = [self._book.plain(pod, self._book.requests(pod)) for pod in group]
        found = one_by_one(plain, units, room, self._clock.now(), may_ask=may_ask)
        if isinstance(found, Plan):
            return found
        if found.why is not None:
            self._refuse(next(p for p in group if p.metadata.uid == found.pod.metadata.uid), found.why)
        return None

    def _bursts(self, pods: Iterable[Pod]) -> list[list[list[Pod]]]:
        """Groups of one priority, in their turn: decided together."""
        return [list(some) for _, some in groupby(self._groups(pods), lambda group: priority_of(group[0]))]

    def _groups(self, pods: Iterable[Pod]) -> list[list[Pod]]:
        """Pods that wait, in their turn: those of a gang together, any other alone."""
        found: dict[str, list[Pod]] = {}
        for pod in sorted(filter(is_waiting, pods), key=_turn):
            gang = gang_of(pod)
            found.setdefault(str(gang) if gang and gang.size > 1 else pod.metadata.uid, []).append(pod)
        return list(found.values())

    def _refuse(self, pod: Pod, found: Preemption) -> None:
        """Say why nobody gives way, where somebody could."""
        if pod.spec.preemption_policy != "Never" and found.considered:
            self._recorder.event(pod, "Warning", "NoPreemption", found.message)

    async def _tell(self, pod: Pod, chosen: Preemption) -> None:
        """Mark all victims, name the node, then let them end."""
        now = self._clock.now()
        victims = [p for victim in chosen.victims for p in victim.unit.pods]
        for victim in victims:
            notice = Notice(deadline=now + grace_s([victim]), reason="Preempted", by=name_of(pod), at=now)
            meta = victim.metadata
            patch = {
                "metadata": {
                    "resourceVersion": meta.resource_version,
                    "annotations": {NOTICE: msgspec.json.encode(notice).decode()},
                    "finalizers": [*meta.finalizers, GIVING_WAY],
                }
            }
            with contextlib.suppress(NotFound):
                await self._cluster.patch(Pod, meta.name, meta.namespace, patch)
            told = f"Preempted by pod {name_of(pod)} on node {chosen.node}"
            self._recorder.event(victim, "Normal", "Preempted", told)
        self._recorder.event(pod, "Normal", "Preempting", chosen.message)
        for victim in victims:
            await self._end(victim)

    async def _nominate(self, pod: Pod, node: str) -> None:
        """Say where room is being made for the pod; and let it not ask again and again, whatever keeps it from that room."""
        uid, now = pod.metadata.uid, self._clock.now()
        asked = self._asked.get(uid, (0.0, 0))[1] + 1
        self._asked[uid] = (now + delay_s(asked, base_s=FIRST_PAUSE_S, cap_s=LAST_PAUSE_S), asked)
        with contextlib.suppress(NotFound, Conflict):
            status = {"status": {"nominatedNodeName": node}}
            await self._cluster.patch(
                Pod, pod.metadata.name, pod.metadata.namespace, status, subresource="status"
            )

    def _is_early(self, pod: Pod) -> bool:
        return self._clock.now() < self._asked.get(pod.metadata.uid, (0.0, 0))[0]

    async def _end(self, pod: Pod) -> None:
        """With its own grace; if it changes meanwhile, its change brings us back."""
        meta = pod.metadata
        with contextlib.suppress(NotFound):
            current = await self._cluster.get(Pod, meta.name, meta.namespace)
            if current.metadata.uid != meta.uid or current.metadata.deletion_timestamp:
                return
            await disrupt(self._cluster, current, "PreemptionByScheduler", EXPLANATION, self._clock.now())

    async def _settle(self, pod: Pod) -> None:
        """The processes are gone: what was saved is read for the last time, the loss is entered, and the pod may go."""
        folder, found = folder_of(pod, self._layout), last_verified(pod)
        if folder is not None:
            read = await asyncio.to_thread(self._reader.read, folder)
            found = read if isinstance(read, Checkpoint) else None
        notice = notice_of(pod.metadata)
        if notice is not None:
            entry = entry_of(pod, notice, found, self._clock.now(), self._price_of(pod))
            await self._ledger.enter(entry, _job_name(pod))
            self._recorder.event(
                pod,
                "Normal" if entry.outcome in ("Saved", "Stateless") else "Warning",
                "GaveWay",
                _words(entry),
            )
        meta = pod.metadata
        kept = [name for name in meta.finalizers if name != GIVING_WAY]
        patch = {"metadata": {"finalizers": kept, "resourceVersion": meta.resource_version}}
        with contextlib.suppress(NotFound):
            await self._cluster.patch(Pod, meta.name, meta.namespace, patch)

    def _price_of(self, pod: Pod) -> int | None:
        """In millionths of a US dollar per hour, None where its node has no price or is gone."""
        node = self._cache.get(Node, pod.spec.node_name)
        if node is None:
            return None
        gpus = self._book.gpus().get(pod.spec.node_name, ())
        part = node_part(shares_of(pod), needs_of(pod), gpus, offered(node.status.allocatable))
        return cost_of(node_price(node.metadata.labels, gpus, self._prices), part).usd_micros

    def _room(self, staying: Sequence[Pod]) -> Room:
        return Room(self._book.stock(staying), self._book.requests)

    def _histories(self) -> dict[str, History]:
        return {job.metadata.uid: history_of(job) for job in self._cache.list(Job)}


def _joined(plans: Sequence[Plan]) -> Plan:
    """Plans of which each begins where the one before ends, as one."""
    return Plan(
        tuple(pod for plan in plans for pod in plan.pods),
        tuple(pair for plan in plans for pair in plan.chosen),
        {uid: node for plan in plans for uid, node in plan.nodes.items()},
        plans[-1].room,
        plans[-1].units,
    )


def is_waiting(pod: Pod) -> bool:
    """Whether placement has found no room for the pod."""
    return is_pending(pod) and any(
        c.type == "PodScheduled" and c.status == "False" and c.reason == "Unschedulable"
        for c in pod.status.conditions
    )


def name_of(pod: Pod) -> str:
    """NAMESPACE/NAME."""
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def _turn(pod: Pod) -> tuple[int, str, str]:
    return -priority_of(pod), pod.metadata.creation_timestamp or "", pod.metadata.name


def _is_ending(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None or NOTICE in pod.metadata.annotations


def _is_gone(pod: Pod) -> bool:
    """Whether its processes are: the kubelet has let go of it."""
    return pod.metadata.deletion_timestamp is not None and not pod.metadata.deletion_grace_period_seconds


def _job_name(pod: Pod) -> str:
    return next((o.name for o in pod.metadata.owner_references if o.uid == job_of(pod)), "")


def _words(entry: Entry) -> str:
    step = f" at step {entry.step}" if entry.step >= 0 else ""
    said = {
        "Saved": f"saved{step}",
        "LastCheckpoint": f"goes on from its last checkpoint{step}",
        "Ignored": f"did not save when told; its last checkpoint is{step or ' none'}",
        "NothingSaved": "had saved nothing",
        "Stateless": "had nothing to save",
    }[entry.outcome]
    broken = f" ({entry.broken})" if entry.broken else ""
    usd = f", {entry.lost_usd_micros / MICROS:.4f} USD" if entry.lost_usd_micros else ""
    return f"Gave way to {entry.by}: {said}{broken}; {entry.lost_gpu_seconds:g} GPU-seconds are lost{usd}"


def _all(obj: Resource) -> Iterable[Key]:
    return (ALL,)
