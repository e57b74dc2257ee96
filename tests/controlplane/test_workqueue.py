"""Keys are handed out once, one at a time, later after failures."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.controller import Key
from penstock.controlplane.workqueue import WorkQueue

pytestmark = pytest.mark.looptime
A, B = Key("default", "a"), Key("default", "b")


async def test_a_key_that_waits_is_not_queued_twice() -> None:
    queue = WorkQueue()
    for key in (A, B, A, A):
        queue.add(key)
    assert [await queue.take(), await queue.take()] == [A, B]
    assert len(queue) == 0


async def test_a_key_that_is_worked_on_is_handed_out_again_only_when_done() -> None:
    queue = WorkQueue()
    queue.add(A)
    assert await queue.take() == A
    queue.add(A)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await queue.take()
    queue.done(A)
    assert await queue.take() == A


async def test_failures_back_off_from_five_milliseconds_to_a_minute_until_forgotten() -> None:
    queue = WorkQueue()
    waits = [queue.retry(A) for _ in range(20)]
    assert waits[:4] == [0.005, 0.01, 0.02, 0.04]
    assert waits[-1] == 60.0
    queue.forget(A)
    assert queue.retry(A) == 0.005
    queue.close()


async def test_of_two_delays_the_shorter_counts_and_an_add_counts_at_once() -> None:
    loop, queue = asyncio.get_running_loop(), WorkQueue()
    begun = loop.time()
    queue.add_after(A, 50)
    queue.add_after(A, 10)
    queue.add_after(A, 30)
    assert await queue.take() == A
    assert loop.time() - begun == pytest.approx(10)
    queue.done(A)
    queue.add_after(A, 1000)
    queue.add(A)
    assert await queue.take() == A
    queue.done(A)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2000):
            await queue.take()


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 4))
def test_no_key_is_ever_worked_on_twice_at_a_time_and_the_last_change_is_always_seen(
    names: list[str], workers: int
) -> None:
    async def run() -> None:
        queue, version, seen, busy = WorkQueue(), dict.fromkeys("abc", 0), dict.fromkeys("abc", 0), set()

        async def work() -> None:
            while True:
                key = await queue.take()
                assert key.name not in busy
                busy.add(key.name)
                seen[key.name] = version[key.name]
                await asyncio.sleep(0)
                busy.discard(key.name)
                queue.done(key)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work()) for _ in range(workers)]
            for name in names:
                version[name] += 1
                queue.add(Key("", name))
                await asyncio.sleep(0)
            for _ in range(200):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
        assert seen == version

    asyncio.run(run())


async def test_what_asks_for_a_key_that_settles_is_one_and_none_is_lost() -> None:
    queue, loop = WorkQueue(settle_s=0.01), asyncio.get_running_loop()
    queue.add(A)
    assert await queue.take() == A
    ended = loop.time()
    queue.done(A)
    for _ in range(3):
        queue.add(A)
    assert len(queue) == 0, "it settles first"
    assert await queue.take() == A
    assert 0.009 <= loop.time() - ended < 20
    queue.done(A)
    await asyncio.sleep(0.03)
    assert len(queue) == 0, "once for all that asked"
    queue.add(A)
    assert len(queue) == 1, "settled, it is due at once"
    queue.close()
