"""Virtual time for hypothesis, whose examples cannot be coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import looptime


def on_virtual_time(main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run to the end; what waits, waits no real time."""
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(main())
