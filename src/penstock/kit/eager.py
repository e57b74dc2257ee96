"""Coroutines that run at once and become tasks only if they have to wait (what Python 3.12 calls eager tasks)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any


def run_eagerly(
    body: Coroutine[Any, None, None], loop: asyncio.AbstractEventLoop
) -> asyncio.Task[None] | None:
    """Run `body` up to its end, and return None; or up to where it first waits, and return the task that does the rest.

    What it raises before it waits is raised here. Before what needs a task (timeouts, `current_task`), await `in_a_task()`.
    """
    try:
        waiting_for = body.send(None)
    except StopIteration:
        return None
    return loop.create_task(_rest(body, waiting_for))


@coroutine
def in_a_task() -> Generator[None, None, None]:
    """Go on in a task from here."""
    yield


async def _rest(body: Coroutine[Any, None, None], waiting_for: Any) -> None:
    await _resumed(body, waiting_for)


@coroutine
def _resumed(body: Coroutine[Any, None, None], waiting_for: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            value = yield waiting_for
        except BaseException as error:  # noqa: BLE001  cancellation and all else belongs to the body
            try:
                waiting_for = body.throw(error)
            except StopIteration:
                return
        else:
            try:
                waiting_for = body.send(value)
            except StopIteration:
                return
