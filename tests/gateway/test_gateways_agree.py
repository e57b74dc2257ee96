"""Two workers of one machine route as one: what went through either counts in both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from gateway_process import Process, started
from gateway_world import OK, Engine, post, service, until
from prometheus_client.parser import text_string_to_metric_families as families
from prometheus_client.samples import Sample

from penstock.contracts.exchange import RoutingRoute
from penstock.gateway.peers import Peers
from penstock.gateway.state import METRICS
from penstock.gateway.telemetry.metrics import total


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


class Workers:
    """Two of them, and what each knows, as its own metrics say."""

    def __init__(self, processes: list[Process], peers: Peers) -> None:
        self.processes, self._peers = processes, peers

    async def known(self, name: str) -> list[dict[str, float]]:
        """By endpoint; of each worker that answers."""
        return [
            {one.labels.get("endpoint", ""): one.value for one in _samples(snapshot, name)}
            for snapshot in await self._peers.gather(METRICS, 10.0)
        ]

    async def have_met(self) -> None:
        """Each hears the other."""
        await self._come_to(lambda: self.known("gossip_gateways"), lambda one: one == {"": 1.0})

    async def have_told(self) -> None:
        """Each other of all that they sent to endpoints: both take them to hold the same, and that is something."""
        await self._come_to(lambda: self.known("kv_index_blocks"), lambda one: any(one.values()))

    async def _come_to(
        self, look: Callable[[], Awaitable[list[dict[str, float]]]], holds: Callable[[dict[str, float]], bool]
    ) -> None:
        async with asyncio.timeout(30):
            while len(found := await look()) < 2 or found[0] != found[1] or not holds(found[0]):
                await asyncio.sleep(0.02)


def _samples(snapshot: bytes, name: str) -> list[Sample]:
    found = (sample for family in families(total(snapshot)) for sample in family.samples)
    return [sample for sample in found if sample.name == f"penstock_gateway_{name}"]


@pytest.fixture
async def workers(tmp_path: Path, engines: tuple[Engine, Engine]) -> AsyncIterator[Workers]:
    routed = service(*engines, routing=RoutingRoute())
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in "ab":
            folder = tmp_path / name
            folder.mkdir()
            made.append(await stack.enter_async_context(started(folder, routed, peers=tmp_path / "w")))
        peers = Peers(tmp_path / "w", "test")
        await peers.open()
        stack.callback(peers.close)
        both = Workers(made, peers)
        await both.have_met()
        yield both


def who_saw(engines: tuple[Engine, Engine], words: str) -> list[str]:
    return [engine.name for engine in engines for _, body in engine.requests if words.encode() in body]


async def test_a_prompt_that_went_through_one_worker_is_found_again_through_the_other(
    engines: tuple[Engine, Engine], workers: Workers
) -> None:
    a, b = workers.processes
    prompts = [f"prompt {number} begins " + f"word{number} " * 800 for number in range(10)]
    for words in prompts:
        await ask(a, words)
    await workers.have_told()
    for words in prompts:
        await ask(b, words + " and goes on")
    for number in range(len(prompts)):
        first, second = who_saw(engines, f"prompt {number} begins")
        assert first == second


async def test_work_that_one_worker_has_under_way_somewhere_keeps_the_other_away(
    engines: tuple[Engine, Engine], workers: Workers
) -> None:
    a, b = workers.processes
    waiting = asyncio.create_task(ask(a, "never answered " * 4_000))
    await until(lambda: who_saw(engines, "never answered"))
    await workers.have_told()
    (busy,) = who_saw(engines, "never answered")
    for number in range(10):
        await ask(b, f"short {number}")
        assert who_saw(engines, f"short {number}") != [busy]
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
