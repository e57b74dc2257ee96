"""Clocks."""

import asyncio
import time

import pytest

from penstock.kit.clock import SystemClock


def test_now_is_unix_time_and_intervals_never_go_back_without_a_loop():
    clock = SystemClock()
    assert abs(clock.now() - time.time()) < 30
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.looptime
async def test_intervals_and_sleeps_follow_the_loop():
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(1000)
    assert clock.monotonic() - before == pytest.approx(1000)
    assert clock.monotonic() == asyncio.get_running_loop().time()
    await clock.sleep(-1)
