"""Events: what was done to an object, or could not be, and why. Repeats raise a count; old ones are cleared away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from typing import Literal, NamedTuple

from penstock.contracts.cluster import Cluster
from penstock.kit.clock import Clock
from penstock.kit.errors import AlreadyExists, NotFound, PlatformError
from penstock.kit.hashing import short_hash
from penstock.kit.timestamps import parse_rfc3339, rfc3339
from penstock.resources.core import Event, EventSource
from penstock.resources.meta import ObjectMeta, ObjectReference, Resource

MAX_WAITING = 1000
"""Events that wait to be written; beyond it the newest is dropped and counted."""
MAX_REMEMBERED = 4096
KEEP_S = 3600.0
KEEP_PER_NAMESPACE = 1000
CLEAR_EVERY_S = 300.0
logger = logging.getLogger(__name__)


class _Note(NamedTuple):
    about: Resource
    component: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    at: float


class EventRecorder:
    """Writes Events in the background. `named` gives the recorder of one component."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        """Nothing is written before `run`."""
        self._cluster = cluster
        self._clock = clock
        self._waiting: asyncio.Queue[_Note] = asyncio.Queue(MAX_WAITING)
        self._written: OrderedDict[str, Event] = OrderedDict()
        self.dropped = 0

    def named(self, component: str) -> ComponentRecorder:
        """The recorder of one component, by the name that Events show as their source."""
        return ComponentRecorder(self, component)

    def note(
        self,
        about: Resource,
        component: str,
        type: Literal["Normal", "Warning"],
        reason: str,
        message: str,
    ) -> None:
        """Take an Event to be written; never waits."""
        try:
            self._waiting.put_nowait(_Note(about, component, type, reason, message, self._clock.now()))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Write and clear until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_all())
            group.create_task(self._clear_all())

    async def flush(self) -> None:
        """Write what still waits; for an orderly stop."""
        while not self._waiting.empty():
            await self._attempt(self._waiting.get_nowait())

    async def _write_all(self) -> None:
        while True:
            await self._attempt(await self._waiting.get())

    async def _attempt(self, note: _Note) -> None:
        try:
            await self._write(note)
        except PlatformError as error:
            logger.warning("event %s about %s is lost: %s", note.reason, note.about.metadata.name, error)

    async def _write(self, note: _Note) -> None:
        event = _event(note)
        known = self._written.pop(event.metadata.name, None)
        if known is not None:
            patch = {"count": known.count + 1, "lastTimestamp": event.last_timestamp}
            try:
                written = await self._cluster.patch(
                    Event, event.metadata.name, event.metadata.namespace, patch
                )
            except NotFound:
                written = await self._cluster.create(event)
        else:
            written = await self._create(event)
        self._written[written.metadata.name] = written
        if len(self._written) > MAX_REMEMBERED:
            self._written.popitem(last=False)

    async def _create(self, event: Event) -> Event:
        try:
            return await self._cluster.create(event)
        except AlreadyExists:
            known = await self._cluster.get(Event, event.metadata.name, event.metadata.namespace)
            patch = {"count": known.count + 1, "lastTimestamp": event.last_timestamp}
            return await self._cluster.patch(Event, event.metadata.name, event.metadata.namespace, patch)

    async def _clear_all(self) -> None:
        while True:
            await self._clock.sleep(CLEAR_EVERY_S)
            try:
                await self._clear()
            except PlatformError as error:
                logger.warning("old events stay: %s", error)

    async def _clear(self) -> None:
        oldest = self._clock.now() - KEEP_S
        kept: Counter[str] = Counter()
        events = (await self._cluster.list(Event)).items
        for event in sorted(events, key=_last, reverse=True):
            kept[event.metadata.namespace] += 1
            if _last(event) >= oldest and kept[event.metadata.namespace] <= KEEP_PER_NAMESPACE:
                continue
            self._written.pop(event.metadata.name, None)
            with contextlib.suppress(NotFound):
                await self._cluster.delete(Event, event.metadata.name, event.metadata.namespace)


class ComponentRecorder:
    """Implements `contracts.controller.Recorder` for one component."""

    def __init__(self, recorder: EventRecorder, component: str) -> None:
        """See `EventRecorder.named`."""
        self._recorder = recorder
        self._component = component

    def event(self, about: Resource, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Record without waiting."""
        self._recorder.note(about, self._component, type, reason, message)


def _last(event: Event) -> float:
    """When it last happened; Events that others wrote may carry any of Kubernetes' three times."""
    moment = event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return parse_rfc3339(moment) if moment else 0.0


def _event(note: _Note) -> Event:
    """The same thing said again has the same name, which is how repeats find their first."""
    meta = note.about.metadata
    identity = (meta.uid or meta.name, note.component, note.type, note.reason, note.message)
    moment = rfc3339(note.at)
    return Event(
        metadata=ObjectMeta(
            name=f"{meta.name[:200]}.{short_hash(identity)}", namespace=meta.namespace or "default"
        ),
        involved_object=ObjectReference(
            api_version=note.about.api_version,
            kind=note.about.kind,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            resource_version=meta.resource_version,
        ),
        type=note.type,
        reason=note.reason,
        message=note.message[:1024],
        count=1,
        first_timestamp=moment,
        last_timestamp=moment,
        source=EventSource(component=note.component),
        reporting_component=note.component,
    )
