"""An event loop whose time does not pass while its process stands still, so that no pause of the machine ends a wait within it."""

from __future__ import annotations

import asyncio
import selectors
import time

LOOK_S = 0.02
STEP_S = 0.05
"""The most that may pass between two looks at the clock. A loop with nothing to do looks every LOOK_S, so more than this is a pause."""


class _Glances(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(LOOK_S if timeout is None else min(timeout, LOOK_S))


class PatientLoop(asyncio.SelectorEventLoop):
    """For gateways, engines and callers that all live in one loop: a timer is due when they had the time, not when the machine did.

    What lives outside, such as another process, may be paused alone: waits for that have to be long.
    """

    def __init__(self) -> None:
        self._at = self._seen = time.monotonic()
        super().__init__(_Glances())

    def time(self) -> float:
        """Seconds; never more than the machine's, and STEP_S more for a pause of any length."""
        now = time.monotonic()
        self._at += min(now - self._seen, STEP_S)
        self._seen = now
        return self._at
