"""Clocks for virtual time."""

from __future__ import annotations

import asyncio

EPOCH_S = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


class LoopClock:
    """Implements `kit.clock.Clock`: wall time starts in 2026 and follows the event loop's, so a virtual loop moves both."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return EPOCH_S + self.monotonic()

    def monotonic(self) -> float:
        """The event loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of loop time."""
        await asyncio.sleep(max(0.0, seconds))


class HandClock:
    """Implements `kit.clock.Clock`; `at` is all that it knows of time, in s. It is moved by its owner, and by who sleeps."""

    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def now(self) -> float:
        """`at`."""
        return self.at

    def monotonic(self) -> float:
        """The same."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Returns at once, so much later."""
        self.at += seconds
