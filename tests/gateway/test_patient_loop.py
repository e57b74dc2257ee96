"""The loop that these tests run in waits as long as it should, and takes no pause of the machine for waiting."""

from __future__ import annotations

import asyncio
import time

import pytest
from patient_loop import STEP_S, PatientLoop


async def test_a_process_that_stands_still_runs_out_of_no_time() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, PatientLoop)
    began = loop.time()
    async with asyncio.timeout(0.5):
        time.sleep(1.0)  # as if the machine stood still
        await asyncio.sleep(0.1)
    assert 0.1 <= loop.time() - began < 0.5


async def test_who_only_waits_waits_by_the_machines_clock() -> None:
    loop = asyncio.get_running_loop()
    began, really = loop.time(), time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5 * STEP_S):
            await loop.create_future()
    assert 5 * STEP_S <= loop.time() - began <= time.monotonic() - really + 0.001
