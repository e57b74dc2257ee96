"""Coroutines that run at once and become tasks only if they have to wait."""

import asyncio

import pytest

from penstock.kit.eager import in_a_task, run_eagerly


async def test_a_body_that_never_waits_has_ended_when_the_call_returns() -> None:
    seen = []

    async def body() -> None:
        seen.append(1)

    assert run_eagerly(body(), asyncio.get_running_loop()) is None
    assert seen == [1]


async def test_a_body_that_waits_goes_on_in_a_task_and_may_use_timeouts_there() -> None:
    seen = []
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def body() -> None:
        seen.append("begun")
        await in_a_task()
        async with asyncio.timeout(30):
            seen.append(await gate)

    task = run_eagerly(body(), asyncio.get_running_loop())
    assert task is not None
    assert seen == ["begun"]
    await asyncio.sleep(0)
    gate.set_result("done")
    await task
    assert seen == ["begun", "done"]


async def test_the_first_wait_may_be_for_a_future_itself() -> None:
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    seen = []

    async def body() -> None:
        seen.append(await gate)

    task = run_eagerly(body(), asyncio.get_running_loop())
    gate.set_result(3)
    assert task is not None
    await task
    assert seen == [3]


async def test_cancelling_the_task_reaches_the_body() -> None:
    seen = []

    async def body() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = run_eagerly(body(), asyncio.get_running_loop())
    assert task is not None
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_what_a_body_raises_at_once_is_raised_at_once() -> None:
    async def body() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError):
        run_eagerly(body(), asyncio.get_running_loop())
