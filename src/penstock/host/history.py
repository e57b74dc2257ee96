"""What happened lately, per resource, for watches: a bounded log that watchers read at their own pace.

Memory is bounded by the log alone. When the log has moved past a watcher's position, that watcher gets Expired.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal, NamedTuple

from penstock.kit.errors import Expired, Unavailable

StepType = Literal["ADDED", "MODIFIED", "DELETED"]


class Step(NamedTuple):
    """One commit: the document after it (for DELETED: the last one) and before it (None when it was created)."""

    version: int
    type: StepType
    namespace: str
    name: str
    document: bytes
    before: bytes | None


class _Log:
    """The steps of one resource; `floor` is the version up to which nothing is kept."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.dropped = 0
        self.steps: list[Step] = []
        self.size_bytes = 0
        self.waiting: set[asyncio.Future[None]] = set()

    def append(self, step: Step, *, steps: int, size_bytes: int) -> None:
        self.steps.append(step)
        self.size_bytes += _size(step)
        if len(self.steps) > steps or self.size_bytes > size_bytes:
            self._drop_half()

    def _drop_half(self) -> None:
        """Dropping half at once keeps appending cheap; the newest step stays, however large, for those who wait for it."""
        count = len(self.steps) // 2
        if not count:
            return
        gone = self.steps[:count]
        del self.steps[:count]
        self.dropped += count
        self.floor = gone[-1].version
        self.size_bytes -= sum(map(_size, gone))


class Position:
    """A watcher's place in the log of one resource."""

    def __init__(self, log: _Log, index: int, histories: Histories) -> None:
        self._log = log
        self._index = index
        self._histories = histories

    def take(self) -> list[Step]:
        """The steps since the last call, maybe none. Raises Expired when some of them are no longer kept."""
        start = self._index - self._log.dropped
        if start < 0:
            raise Expired(
                "the watcher was too slow: changes it has not seen are no longer kept",
                code="watcher_too_slow",
                hint="list again, then watch from the list's resourceVersion",
            )
        steps = self._log.steps[start:]
        self._index += len(steps)
        return steps

    async def wait(self) -> None:
        """Return when `take` has something to say. Raises Unavailable when the store is closed."""
        if self._histories.closed:
            raise Unavailable("the store is closed", code="store_closed")
        if self._index < self._log.dropped + len(self._log.steps):
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log.waiting.add(waiter)
        try:
            await waiter
        finally:
            self._log.waiting.discard(waiter)


@dataclass(slots=True)
class _Bounds:
    steps: int
    size_bytes: int


class Histories:
    """The logs of all resources, each bounded by `steps` and `size_bytes`."""

    def __init__(self, version: int, *, steps: int, size_bytes: int) -> None:
        """`version` is where the store stood when it was opened: nothing before it is known."""
        self._floor = version
        self._bounds = _Bounds(steps, size_bytes)
        self._logs: dict[str, _Log] = {}
        self.closed = False

    def append(self, resource: str, step: Step) -> None:
        """Record a commit and wake the resource's watchers."""
        log = self._log(resource)
        log.append(step, steps=self._bounds.steps, size_bytes=self._bounds.size_bytes)
        _wake(log)

    def position(self, resource: str, since: int, now: int) -> Position:
        """The place right after version `since`; `now` is the store's version."""
        log = self._log(resource)
        if not log.floor <= since <= now:
            found = "too old" if since < log.floor else "unknown, newer than the newest"
            raise Expired(
                f"{found} resource version: {since} (kept are {log.floor} to {now})",
                hint="list again, then watch from the list's resourceVersion",
            )
        index = bisect_right(log.steps, since, key=lambda step: step.version)
        return Position(log, log.dropped + index, self)

    def close(self) -> None:
        """Wake every watcher, which then learns that the store is closed."""
        self.closed = True
        for log in self._logs.values():
            _wake(log)

    def _log(self, resource: str) -> _Log:
        return self._logs.setdefault(resource, _Log(self._floor))


def _wake(log: _Log) -> None:
    for waiter in log.waiting:
        if not waiter.done():
            waiter.set_result(None)


def _size(step: Step) -> int:
    return len(step.document) + len(step.before or b"") + 256
