"""A watch of one kind: the store's history, seen through a namespace and a selection."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from penstock.host.history import Position, Step, StepType
from penstock.host.selection import Selection


class Seen(NamedTuple):
    """One change as a watcher sees it; `document` is JSON, for DELETED the last state."""

    type: StepType
    document: bytes
    version: int


class ObjectWatch:
    """Iterate with `take` (what is there) and `wait` (until there is more)."""

    def __init__(self, position: Position, namespace: str | None, selection: Selection | None) -> None:
        self._position = position
        self._namespace = namespace
        self._selection = selection

    def take(self) -> list[Seen]:
        """The changes since the last call, maybe none. Raises Expired when this watcher was too slow."""
        seen = (self._see(step) for step in self._position.take())
        return [one for one in seen if one is not None]

    async def wait(self) -> None:
        """Return when `take` may have something to say."""
        await self._position.wait()

    def _see(self, step: Step) -> Seen | None:
        """An object that enters or leaves the selection is added or deleted as far as this watcher can tell."""
        if self._namespace is not None and step.namespace != self._namespace:
            return None
        if not self._selection:
            return Seen(step.type, step.document, step.version)
        after = step.type != "DELETED" and self._matches(step.document)
        before = step.before is not None and self._matches(step.before)
        if after:
            return Seen("MODIFIED" if before else "ADDED", step.document, step.version)
        return Seen("DELETED", step.document, step.version) if before else None

    def _matches(self, document: bytes) -> bool:
        return self._selection is None or self._selection.matches(orjson.loads(document))
