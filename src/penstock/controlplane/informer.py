"""A local copy of the watched kinds, kept current by list and watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from penstock.contracts.cluster import Change, Cluster
from penstock.controlplane.index import Index
from penstock.kit.backoff import delay_s
from penstock.kit.clock import Clock
from penstock.kit.errors import Expired, PlatformError
from penstock.kit.tasks import supervise
from penstock.resources.meta import Resource
from penstock.resources.selectors import parse_labels

R = TypeVar("R", bound=Resource)
Listener = Callable[[Resource | None, Resource | None], None]
"""Called with the object before and after a change; None where it did not exist."""

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 30.0
logger = logging.getLogger(__name__)


class InformerCache:
    """Implements `contracts.controller.Cache`. Kinds are fixed before `run`; reading another kind is a mistake."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        """Nothing is read before `run`."""
        self._cluster = cluster
        self._clock = clock
        self._informers: dict[type[Resource], _Informer] = {}

    def watch(self, kind: type[Resource], listener: Listener) -> None:
        """Keep `kind` current and tell `listener` of each change; the first list counts as changes from None."""
        informer = self._informers.setdefault(kind, _Informer(kind, self._cluster, self._clock))
        informer.listeners.append(listener)

    async def run(self) -> None:
        """Follow every kind until cancelled; one that fails is listed anew and holds up no other."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(supervise(f"informer of {informer.kind.__name__}", informer.run))

    async def wait_synced(self, kinds: Iterable[type[Resource]] | None = None) -> None:
        """Until each of `kinds` was listed once; None means all that are watched."""
        for kind in tuple(self._informers if kinds is None else kinds):
            await self._informers[kind].synced.wait()

    def get(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        """The object, or None."""
        return self._informers[kind].objects.get((namespace, name))

    def list(
        self, kind: type[R], namespace: str | None = None, *, labels: str = "", owner: str = ""
    ) -> tuple[R, ...]:
        """All that match, ordered by namespace and name."""
        return self._informers[kind].objects.find(namespace, parse_labels(labels), owner)


class _Informer:
    """One kind."""

    def __init__(self, kind: type[Resource], cluster: Cluster, clock: Clock) -> None:
        self.kind = kind
        self.listeners: list[Listener] = []
        self.objects = Index()
        self.synced = asyncio.Event()
        self._cluster = cluster
        self._clock = clock

    async def run(self) -> None:
        failures = 0
        while True:
            try:
                position = await self._list()
                failures = 0
                await self._follow(position)
            except Expired:
                continue
            except PlatformError as error:
                failures += 1
                logger.warning("cannot watch %s: %s", self.kind.__name__, error)
                await self._clock.sleep(delay_s(failures, base_s=FIRST_RETRY_S, cap_s=LAST_RETRY_S))

    async def _list(self) -> str:
        listing = await self._cluster.list(self.kind)
        fresh = {_place(obj): obj for obj in listing.items}
        for place in [place for place in self.objects if place not in fresh]:
            self._put(place, None)
        for place, obj in fresh.items():
            known = self.objects.get(place)
            if known is None or known.metadata.resource_version != obj.metadata.resource_version:
                self._put(place, obj)
        self.synced.set()
        return listing.resource_version

    async def _follow(self, position: str) -> None:
        async for change in self._cluster.watch(self.kind, since=position):
            self._apply(change)

    def _apply(self, change: Change[Any]) -> None:
        if change.type != "BOOKMARK":
            self._put(_place(change.object), None if change.type == "DELETED" else change.object)

    def _put(self, place: tuple[str, str], obj: Any | None) -> None:
        before = self.objects.put(place, obj)
        for listener in self.listeners:
            listener(before, obj)


def _place(obj: Resource) -> tuple[str, str]:
    return (obj.metadata.namespace, obj.metadata.name)


def objects_of(before: Resource | None, after: Resource | None) -> Iterable[Resource]:
    """The states of an object that a change speaks of: both, since either may name keys that must be looked at."""
    return (obj for obj in (before, after) if obj is not None)
