"""Answers that go on: watch streams and followed logs. Their number is bounded, and they can be ended together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from penstock.host.api.status import status_of
from penstock.host.api.table import View
from penstock.host.metadata import Document
from penstock.host.objects import ObjectStore
from penstock.host.watching import ObjectWatch
from penstock.kit.errors import Exhausted, PlatformError, Unavailable

MAX_STREAMS = 512
WATCH_S = 1800.0
"""How long a watch lasts when the client does not say; clients reconnect and lose nothing."""
BOOKMARK_S = 60.0
INITIAL_END = {"k8s.io/initial-events-end": "true"}


class Streams:
    """Counts the open streams and ends them when the server stops."""

    def __init__(self, limit: int = MAX_STREAMS) -> None:
        """`limit` bounds the streams that are open at once."""
        self._limit = limit
        self._waiting: set[asyncio.Future[None]] = set()
        self.closed = False
        self.open = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Take one place for as long as the stream lasts. Raises Exhausted, Unavailable."""
        self.check()
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    def check(self) -> None:
        """Raise Exhausted when no place is free, Unavailable when the server is stopping."""
        if self.closed:
            raise Unavailable("the server is stopping", retry_after_s=1.0)
        if self.open >= self._limit:
            raise Exhausted(
                f"too many open watches and logs: {self.open}, at most {self._limit}",
                hint="close some of them",
                retry_after_s=5.0,
            )

    def close(self) -> None:
        """End every stream, now or at its next wait."""
        self.closed = True
        for waiting in self._waiting:
            waiting.cancel()

    async def wait(self, event: Coroutine[Any, Any, None], timeout_s: float) -> bool:
        """Wait for `event`; False when the time is up or the server stops. Raises what `event` raises."""
        waiting = asyncio.ensure_future(event)
        if self.closed:
            waiting.cancel()
        self._waiting.add(waiting)
        try:
            await asyncio.wait((waiting,), timeout=timeout_s)
            if not waiting.done() or waiting.cancelled():
                return False
            waiting.result()
            return True
        finally:
            self._waiting.discard(waiting)
            waiting.cancel()


class WatchStream:
    """One watch as JSON lines of `{"type", "object"}`."""

    def __init__(
        self,
        objects: ObjectStore,
        streams: Streams,
        view: View,
        *,
        timeout_s: float = WATCH_S,
        bookmarks: bool = False,
    ) -> None:
        """`bookmarks` sends the newest resourceVersion once a minute while nothing happens."""
        self._objects = objects
        self._streams = streams
        self._view = view
        self._timeout_s = timeout_s
        self._bookmarks = bookmarks and view.shape != "table"

    async def lines(
        self, watch: ObjectWatch | PlatformError, initial: Iterable[Document] = (), *, mark_initial: str = ""
    ) -> AsyncIterator[bytes]:
        """The objects that were there (as ADDED), then every change. A watch that cannot go on ends with an ERROR.

        `mark_initial` is the version to announce, with a bookmark, after the initial objects.
        """
        try:
            with self._streams.admitted():
                for document in initial:
                    yield self._line("ADDED", orjson.dumps(document))
                if mark_initial:
                    yield self._bookmark(mark_initial, INITIAL_END)
                if isinstance(watch, PlatformError):
                    raise watch
                async for lines in self._changes(watch):
                    yield lines
        except PlatformError as error:
            yield _error_line(error)

    async def _changes(self, watch: ObjectWatch) -> AsyncIterator[bytes]:
        clock = self._objects.clock
        end_s = clock.monotonic() + self._timeout_s
        idle = False
        while not self._streams.closed and (left_s := end_s - clock.monotonic()) > 0:
            seen = watch.take()
            if seen:
                yield b"".join(self._line(one.type, one.document) for one in seen)
                continue
            if idle and self._bookmarks:
                yield self._bookmark(str(self._objects.store.version))
            idle = not await self._streams.wait(watch.wait(), min(left_s, BOOKMARK_S))

    def _line(self, type: str, document: bytes) -> bytes:
        if self._view.shape != "object":
            shaped = self._view.one(orjson.loads(document), self._objects.clock.now())
            document = orjson.dumps(shaped)
        return b'{"type":"%s","object":%s}\n' % (type.encode(), document)

    def _bookmark(self, version: str, annotations: dict[str, str] | None = None) -> bytes:
        kind = self._view.kind
        meta: Document = {"resourceVersion": version, "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        empty = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
        return self._line("BOOKMARK", orjson.dumps(empty))


def _error_line(error: PlatformError) -> bytes:
    return orjson.dumps({"type": "ERROR", "object": status_of(error)}) + b"\n"
