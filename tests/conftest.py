"""What every test runs under, and what starts too slowly to be started for each."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from looptime import LoopTimeEventLoop

from event_sources import Rabbit, rabbit

THREAD_LOOK_S = 1.0


def pytest_configure() -> None:
    """On Python 3.11 pytest-asyncio would otherwise make the policy create a loop that nobody closes."""
    asyncio.set_event_loop(None)
    settings.register_profile("unhurried", settings.default, deadline=None)
    settings.load_profile("unhurried")  # a machine may stand still for longer than an example takes
    _virtual_time_waits_for_threads()


def _virtual_time_waits_for_threads() -> None:
    """looptime has its time go on at the real pace while a thread works: one that stands still would let timers go off."""
    own = "_LoopTimeEventLoop__"
    goes_on = getattr(LoopTimeEventLoop, f"{own}replaced_select")

    def select(loop: LoopTimeEventLoop, timeout: float | None) -> list[tuple[Any, Any]]:
        works = any(not one.done() for one in getattr(loop, f"{own}sync_futures"))
        if timeout == 0 or not loop.looptime_on or not works:
            return list(goes_on(loop, timeout))
        return list(getattr(loop, f"{own}original_select")(timeout=THREAD_LOOK_S))

    setattr(LoopTimeEventLoop, f"{own}replaced_select", select)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """One for all tests: each file declares queues under names that no other has."""
    with rabbit(tmp_path_factory.mktemp("rabbit")) as running:
        yield running
