"""Time as an object, so that shells can be run under virtual time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for timestamps, monotonic time for intervals; both in seconds."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero or less."""
        ...


class SystemClock:
    """The machine's clock; intervals and sleeps follow the running event loop, so virtual loops work."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """The event loop's time where one runs, else the system's monotonic clock."""
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of loop time."""
        await asyncio.sleep(max(0.0, seconds))


class SteadyClock(SystemClock):
    """The machine's clock, read without asking which event loop runs: for paths that read it several times per request."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
