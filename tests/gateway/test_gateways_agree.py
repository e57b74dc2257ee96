"""Two workers of one machine route as one: what went through either counts in both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from gateway_process import Process, started
from gateway_world import OK, Engine, post, service

from penstock.contracts.exchange import RoutingRoute

EXCHANGED_S = 0.3
"""In which workers have told each other what they did, also on a busy machine."""


async def answer(
    engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if b"never answered" in engine.requests[-1][1]:
        await asyncio.sleep(60)
    writer.write(OK)


async def ask(worker: Process, words: str) -> None:
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": words}]})
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(post(body))
    try:
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    finally:
        writer.close()


@pytest.fixture
async def engines() -> AsyncIterator[tuple[Engine, Engine]]:
    pair = Engine("e-0", answer), Engine("e-1", answer)
    for engine in pair:
        await engine.start()
    yield pair
    for engine in pair:
        await engine.stop()


@pytest.fixture
async def workers(tmp_path: Path, engines: tuple[Engine, Engine]) -> AsyncIterator[list[Process]]:
    routed = service(*engines, routing=RoutingRoute())
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in "ab":
            folder = tmp_path / name
            folder.mkdir()
            made.append(await stack.enter_async_context(started(folder, routed, peers=tmp_path / "w")))
        await asyncio.sleep(1.5)
        yield made


def who_saw(engines: tuple[Engine, Engine], words: str) -> list[str]:
    return [engine.name for engine in engines for _, body in engine.requests if words.encode() in body]


async def test_a_prompt_that_went_through_one_worker_is_found_again_through_the_other(
    engines: tuple[Engine, Engine], workers: list[Process]
) -> None:
    a, b = workers
    prompts = [f"prompt {number} begins " + f"word{number} " * 800 for number in range(10)]
    for words in prompts:
        await ask(a, words)
    await asyncio.sleep(EXCHANGED_S)
    for words in prompts:
        await ask(b, words + " and goes on")
    for number in range(len(prompts)):
        first, second = who_saw(engines, f"prompt {number} begins")
        assert first == second


async def test_work_that_one_worker_has_under_way_somewhere_keeps_the_other_away(
    engines: tuple[Engine, Engine], workers: list[Process]
) -> None:
    a, b = workers
    waiting = asyncio.create_task(ask(a, "never answered " * 4_000))
    await asyncio.sleep(EXCHANGED_S)
    (busy,) = who_saw(engines, "never answered")
    for number in range(10):
        await ask(b, f"short {number}")
        assert who_saw(engines, f"short {number}") != [busy]
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
