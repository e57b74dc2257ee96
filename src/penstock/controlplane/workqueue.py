"""Keys to reconcile: each at most once in the queue, never two at a time, with delays and back-off per key."""

from __future__ import annotations

import asyncio
from collections import deque

from penstock.contracts.controller import Key
from penstock.kit.backoff import delay_s

FIRST_RETRY_S = 0.005
LAST_RETRY_S = 60.0


class WorkQueue:
    """A key that is added while it is being worked on is handed out again afterwards. Bounded by the number of keys."""

    def __init__(self, settle_s: float = 0.0) -> None:
        """Empty. A key counts as worked on until `settle_s` after its `done`: all that asks for it in between is one."""
        self._settle_s = settle_s
        self._ready: deque[Key] = deque()
        self._dirty: set[Key] = set()
        self._working: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._settling: dict[Key, asyncio.TimerHandle] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait to be taken now."""
        return len(self._ready)

    def add(self, key: Key) -> None:
        """Ask for a reconcile now; a delayed one is thereby brought forward."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._working:
            self._ready.append(key)
            self._news.set()

    def add_after(self, key: Key, delay: float) -> None:
        """Ask for a reconcile in `delay` seconds, or earlier if one is already due before."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(max(0.0, delay), self._due, key)

    def retry(self, key: Key) -> float:
        """Ask again after a failure; the wait grows from 5 ms to a minute. Returns it in seconds."""
        self._failures[key] = self._failures.get(key, 0) + 1
        wait_s = delay_s(self._failures[key], base_s=FIRST_RETRY_S, cap_s=LAST_RETRY_S)
        self.add_after(key, wait_s)
        return wait_s

    def forget(self, key: Key) -> None:
        """The key was reconciled: its next failure is a first one."""
        self._failures.pop(key, None)

    async def take(self) -> Key:
        """The next key, once there is one; `done` must follow."""
        while not self._ready:
            self._news.clear()
            await self._news.wait()
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._working.add(key)
        return key

    def done(self, key: Key) -> None:
        """The work on `key` ended; if it was added meanwhile, it is due again, once it has settled."""
        if self._settle_s:
            loop = asyncio.get_running_loop()
            self._settling[key] = loop.call_later(self._settle_s, self._settled, key)
        else:
            self._settled(key)

    def close(self) -> None:
        """Drop all timers."""
        for timers in (self._timers, self._settling):
            for timer in timers.values():
                timer.cancel()
            timers.clear()

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _settled(self, key: Key) -> None:
        self._settling.pop(key, None)
        self._working.discard(key)
        if key in self._dirty:
            self._ready.append(key)
            self._news.set()
