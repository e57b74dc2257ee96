"""The placement loop: binds each pending pod to the node that `decide/placement.py` chooses; a gang all at once or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch
from penstock.contracts.devices import DEVICES_ANNOTATION, DeviceRequest, GpuType
from penstock.contracts.model_bindings import bound_to, source_of
from penstock.decide.board import Board
from penstock.decide.fragmentation import Worth
from penstock.decide.gang import Gang, Member, gang_of, missing, place_gang
from penstock.decide.inventory import Inventory
from penstock.decide.load_time import Loading, differs
from penstock.decide.node_standing import Leaning
from penstock.decide.placement import Placement, place
from penstock.decide.pod_priority import prioritised
from penstock.decide.pod_requests import needs_of
from penstock.decide.prices import Price, Quote, cost_of, dollars, gpu_hour, node_part, node_prices
from penstock.decide.storage import fetched_by
from penstock.host.device_book import DeviceBook
from penstock.host.fit_book import FitBook
from penstock.host.load_times import LoadTimes, Models
from penstock.host.usual_work import UsualWork
from penstock.kit.clock import Clock
from penstock.kit.errors import Conflict, NotFound
from penstock.kit.timestamps import rfc3339
from penstock.resources.conditions import replaced
from penstock.resources.core import Node, PriorityClass
from penstock.resources.meta import Condition, Resource
from penstock.resources.pod import Pod

ALL = Key("", "pending pods")
"""There is one queue of pending pods, so that two pods never take the same room."""


GANG_TIMEOUT_S = 300.0
"""A gang of which only some have a node, because a pod went or a node did, gives up their room after so long."""


HEADERS_S = 0.5
"""Until pods whose models' headers are being read are looked at again."""


@dataclass(slots=True)
class Room:
    """One round: what is left, what each pod asks for by its uid, what GPUs are worth to whom, what each node costs, how long it loads models."""

    stock: Inventory
    requests: Mapping[str, tuple[DeviceRequest, ...] | str]
    worth: Worth
    leaning: Leaning
    quotes: Mapping[str, Quote]
    loads: Mapping[Models, Mapping[str, Loading]]
    leanings: dict[Models, Leaning] = field(default_factory=dict)

    def leaning_of(self, models: Models) -> Leaning:
        """The same object for pods with the same models."""
        if not models:
            return self.leaning
        if models not in self.leanings:
            times = self.loads.get(models, {})
            load_s = {node: one.total_s for node, one in times.items()} if differs(times) else {}
            self.leanings[models] = msgspec.structs.replace(self.leaning, load_s=load_s)
        return self.leanings[models]


class PlacementController:
    """Highest priority first, then oldest first; what does not fit now is tried again whenever nodes or pods change."""

    name = "placement"

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        recorder: Recorder,
        clock: Clock,
        *,
        gpu_types: Sequence[GpuType] = (),
        prices: Sequence[Price] = (),
        loads: LoadTimes | None = None,
        fits: FitBook | None = None,
    ) -> None:
        """See `contracts/controller.py`; `prices` are what nodes cost where that is known, `loads` looks at the caches of those that have one, `fits` at where models fit."""
        self._loads = loads
        self._book = DeviceBook(cache, gpu_types, fits)
        self._fits = fits
        self._prices = prices
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._usual = UsualWork()
        self._board = Board()
        self._torn_since: dict[Gang, float] = {}

    def watches(self) -> tuple[Watch, ...]:
        """Pods, nodes with their devices, claims and priorities: each may let a pending pod go ahead."""
        return (Watch(Pod, _all), Watch(Node, _all), Watch(PriorityClass, _all), *self._book.watches(_all))

    async def reconcile(self, key: Key) -> float | None:
        """Place what can be placed. Reads pods afresh: the cache may lag behind our own bindings."""
        if not any(map(is_pending, self._cache.list(Pod))):
            return None
        pods = (await self._cluster.list(Pod)).items
        room = self._room(pods, await self._load_times(pods))
        gangs: set[Gang] = set()
        for pod in sorted(filter(is_pending, pods), key=self._turn):
            gang = gang_of(pod)
            if gang is None or gang.size == 1:
                await self._place(pod, room)
            elif gang not in gangs:
                gangs.add(gang)
                await self._place_gang(gang, pods, room)
        self._torn_since = {gang: since for gang, since in self._torn_since.items() if gang in gangs}
        if self._fits is not None and self._fits.is_reading:
            return HEADERS_S
        return GANG_TIMEOUT_S if self._torn_since else None

    async def _load_times(self, pods: Iterable[Pod]) -> dict[Models, Mapping[str, Loading]]:
        """Of the models for which pods wait."""
        if self._loads is None:
            return {}
        wanted = {models for pod in pods if is_pending(pod) and (models := _models(pod))}
        return {models: await self._loads.of(models) for models in wanted}

    def _room(self, pods: tuple[Pod, ...], loads: Mapping[Models, Mapping[str, Loading]]) -> Room:
        there = [pod for pod in pods if not _ended(pod)]
        requests = {pod.metadata.uid: self._book.requests(pod) for pod in there}
        asked = {uid: some for uid, some in requests.items() if not isinstance(some, str)}
        gpus = [gpu for found in self._book.gpus().values() for gpu in found]
        self._usual.learn(there, asked, gpus, self._clock.now())
        stock = self._book.stock(pod for pod in there if pod.spec.node_name)
        quotes = node_prices(stock.rooms, self._prices)
        hours = {name: gpu_hour(quote, len(stock.rooms[name].gpus)) for name, quote in quotes.items()}
        price = {name: usd for name, usd in hours.items() if usd is not None}
        leaning = msgspec.structs.replace(self._usual.leaning(asked), price=price)
        return Room(stock, requests, self._usual.worth(gpus), leaning, quotes, loads)

    async def _place(self, pod: Pod, room: Room) -> None:
        requests = room.requests[pod.metadata.uid]
        placement = (
            Placement("", requests)
            if isinstance(requests, str)
            else self._placed(pod, room.stock, requests, room, self._board)
        )
        if placement.node:
            if await self._bind(pod, placement, room):
                room.stock = room.stock.with_(pod, placement.node, placement.shares)
                self._board.prepare(list(room.stock.rooms.values()), room.worth)
            return
        await self._refuse(pod, f"{placement.message} {placement.hint}".strip())
        self._reserve(pod, room)

    def _placed(
        self,
        pod: Pod,
        stock: Inventory,
        requests: tuple[DeviceRequest, ...],
        room: Room,
        board: Board | None = None,
    ) -> Placement:
        plain = self._book.plain(pod, requests)
        leaning = room.leaning_of(_models(pod))
        return place(plain, stock, requests, worth=room.worth, leaning=leaning, board=board)

    async def _place_gang(self, gang: Gang, pods: Iterable[Pod], room: Room) -> None:
        own = [pod for pod in pods if gang_of(pod) == gang and not _ended(pod) and not _is_leaving(pod)]
        waiting = [pod for pod in own if is_pending(pod)]
        why = missing(gang, len(own))
        members = []
        for pod in waiting:
            requests = room.requests[pod.metadata.uid]
            if isinstance(requests, str):
                why = why or f"{pod.metadata.name}: {requests}"
            else:
                members.append(Member(pod, requests))
        if not why:
            board = Board()
            found = place_gang(
                members, room.stock, lambda pod, stock, asked: self._placed(pod, stock, asked, room, board)
            )
            why = "" if found.placements else found.message
            for (pod, _), placement in zip(members, found.placements, strict=False):
                if await self._bind(pod, replace(placement, message=found.message), room):
                    room.stock = room.stock.with_(pod, placement.node, placement.shares)
        if why:
            for pod in waiting:
                await self._refuse(pod, why)
                self._reserve(pod, room)
            await self._let_go(gang, [pod for pod in own if pod.spec.node_name], why)

    async def _let_go(self, gang: Gang, bound: list[Pod], why: str) -> None:
        """Some are bound and the others cannot be: in the end they make room for others, and start together or not at all."""
        if not bound:
            return
        now = self._clock.now()
        if now < self._torn_since.setdefault(gang, now) + GANG_TIMEOUT_S:
            return
        for pod in bound:
            with suppress(Conflict, NotFound):
                await self._cluster.delete(Pod, pod.metadata.name, pod.metadata.namespace)
            self._recorder.event(pod, "Warning", "GangTimeout", f"{why}: its room is given up")

    def _reserve(self, pod: Pod, room: Room) -> None:
        """Take what the pod will get where room is being made for it: those behind it must not have a part of that."""
        name, requests = pod.status.nominated_node_name, room.requests[pod.metadata.uid]
        here = room.stock.rooms.get(name)
        if here is None or isinstance(requests, str):
            return
        ending = [held.pod for held in here.held if _is_leaving(held.pod)]
        later = Inventory({name: here}).without(ending)
        room.stock = room.stock.with_(pod, name, self._placed(pod, later, requests, room).shares)

    def _turn(self, pod: Pod) -> tuple[int, str, str]:
        priority = prioritised(pod, self._cache.list(PriorityClass)).spec.priority or 0
        return -priority, pod.metadata.creation_timestamp or "", pod.metadata.name

    async def _bind(self, pod: Pod, placement: Placement, room: Room) -> bool:
        meta = pod.metadata
        shares = msgspec.json.encode(placement.shares).decode() if placement.shares else None
        gpus = [one.gpu for one in room.stock.rooms[placement.node].gpus]
        certificate = self._fits.annotations(pod, placement.shares, gpus) if self._fits else {}
        patch = {
            "metadata": {
                "resourceVersion": meta.resource_version,
                "annotations": {DEVICES_ANNOTATION: shares, **certificate},
            },
            "spec": {"nodeName": placement.node},
        }
        try:
            await self._cluster.patch(Pod, meta.name, meta.namespace, patch)
        except (Conflict, NotFound):
            return False  # it changed or went meanwhile: its change brings us back
        why = placement.message + _load_of(pod, placement, room) + _price_of(pod, placement, room)
        where = f"Successfully assigned {meta.namespace}/{meta.name} to {placement.node} ({why})"
        self._recorder.event(pod, "Normal", "Scheduled", where)
        return True

    async def _refuse(self, pod: Pod, message: str) -> None:
        known = next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
        if known is not None and known.message == message:
            return
        condition = Condition(
            type="PodScheduled",
            status="False",
            reason="Unschedulable",
            message=message,
            last_transition_time=rfc3339(self._clock.now()),
        )
        conditions = replaced(pod.status.conditions, condition)
        status = msgspec.structs.replace(pod.status, phase="Pending", conditions=conditions)
        try:
            await self._cluster.replace(msgspec.structs.replace(pod, status=status), subresource="status")
        except (Conflict, NotFound):
            return
        self._recorder.event(pod, "Warning", "FailedScheduling", message)


def _models(pod: Pod) -> Models:
    """As caches name them: of a part the whole is there."""
    uris = fetched_by(pod.spec)
    sources = [bound.source for bound in bound_to(pod.metadata.annotations)] if uris else []
    return frozenset(source_of(uri, sources) for uri in uris)


def _load_of(pod: Pod, placement: Placement, room: Room) -> str:
    """What stands between the pod and its weights there, "" where that is not known."""
    loading = room.loads.get(_models(pod), {}).get(placement.node)
    return f", {loading.told}" if loading is not None else ""


def _price_of(pod: Pod, placement: Placement, room: Room) -> str:
    """What the pod costs there, "" where that is not known or nothing of it is the pod's."""
    here = room.stock.rooms[placement.node]
    part = node_part(placement.shares, needs_of(pod), [one.gpu for one in here.gpus], here.whole)
    cost = cost_of(room.quotes[placement.node], part)
    return f", {dollars(cost.usd_micros)}" if cost.usd_micros else ""


def is_pending(pod: Pod) -> bool:
    """Whether the pod waits for a node."""
    return (
        not pod.spec.node_name
        and pod.metadata.deletion_timestamp is None
        and not pod.spec.scheduling_gates
        and not _ended(pod)
    )


def _is_leaving(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None


def _ended(pod: Pod) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")


def _all(obj: Resource) -> Iterable[Key]:
    return (ALL,)
