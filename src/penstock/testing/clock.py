"""A clock for virtual time."""

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
