"""Supervised tasks come back after any death, ever more slowly, and end when told."""

from __future__ import annotations

import asyncio
import logging

import pytest

from penstock.kit.tasks import end, supervise

pytestmark = pytest.mark.looptime


async def test_a_body_that_fails_or_returns_runs_again_after_growing_waits() -> None:
    loop, starts = asyncio.get_running_loop(), []

    async def body() -> None:
        starts.append(loop.time())
        if len(starts) % 2:
            raise ValueError("broken")

    task = asyncio.create_task(supervise("body", body))
    await asyncio.sleep(1.0)
    await end([task])
    begun = starts[0]
    assert [round(at - begun, 3) for at in starts] == [0.0, 0.1, 0.3, 0.7]


async def test_a_death_after_a_steady_life_counts_as_the_first() -> None:
    loop, starts = asyncio.get_running_loop(), []

    async def body() -> None:
        starts.append(loop.time())
        await asyncio.sleep(0.0 if len(starts) < 6 else 100.0)
        raise ValueError("broken")

    task = asyncio.create_task(supervise("body", body))
    await asyncio.sleep(300.0)
    await end([task])
    assert starts[7] - starts[6] == pytest.approx(100.1)


async def test_end_waits_for_every_task_and_logs_what_one_died_of(caplog: pytest.LogCaptureFixture) -> None:
    ended = []

    async def slow() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            ended.append("slow")

    async def bad() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            raise ValueError("broken at the end")

    tasks = [asyncio.create_task(slow()), asyncio.create_task(bad(), name="bad one")]
    await asyncio.sleep(0)
    with caplog.at_level(logging.ERROR):
        await end(tasks)
    assert ended == ["slow"]
    assert "bad one failed while it ended" in caplog.text
