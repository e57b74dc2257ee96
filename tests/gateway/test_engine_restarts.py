"""An engine is killed and comes back under the same address, with an empty cache, while requests go on."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from engine_processes import BLOCK, EngineProcess, engine_processes
from gateway_world import Gateway, service, until
from prometheus_client.parser import text_string_to_metric_families as families

from penstock.contracts.exchange import RevisionRoute, RoutingRoute
from penstock.contracts.tokenizing import BYTES_TOKENIZER
from penstock.gateway import polls
from penstock.gateway.polls import EVERY_S, SELDOM_S
from penstock.kit import scrape as scraping
from plain_http import PLAIN

PROMPT_TOKENS = 1_800
SUBJECTS = [f"weir {number}" for number in range(12)]
TOKENIZING = (sys.executable, "-m", "penstock.engine.tokenizing")


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated answers come so fast that tokenizing beside other tests takes most of their time, and other processes may stand still."""
    monkeypatch.setattr("penstock.gateway.tokenizers.is_quick", lambda took_s, whole_s: True)
    monkeypatch.setattr("penstock.gateway.tokenizers.patience_s", lambda size: 20.0)
    monkeypatch.setattr("penstock.gateway.kv_subscription.REPLAY_TIMEOUT_S", 20.0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The ports at which metrics were read."""
    ports: set[int] = set()

    async def scrape(host: str, port: int, path: str, *, timeout_s: float) -> str:
        text = await scraping.scrape(host, port, path, timeout_s=timeout_s)
        ports.add(port)
        return text

    monkeypatch.setattr(polls, "scrape", scrape)
    return ports


class Asked(NamedTuple):
    at: float
    subject: str
    endpoint: str
    status: int
    cached_tokens: int


class World:
    def __init__(self, engines: list[EngineProcess], client: httpx.AsyncClient, *, tells: bool) -> None:
        self.engines, self.tells, self._client = engines, tells, client
        self.asked: list[Asked] = []

    def places(self) -> Counter[str]:
        """How many were answered where."""
        return Counter(one.endpoint for one in self.asked)

    async def ask(self, subject: str) -> Asked:
        body = {"model": "m", "prompt": f"About the {subject}: " * 400, "max_tokens": 2}
        answer = await self._client.post("/v1/completions", json=body)
        cached = -1
        if answer.status_code == 200:
            cached = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        name = answer.headers.get("x-penstock-endpoint", "")
        found = Asked(time.monotonic(), subject, name, answer.status_code, cached)
        self.asked.append(found)
        return found

    async def samples(self, name: str, label: str) -> dict[str, float]:
        text = (await self._client.get("/metrics")).text
        found: Counter[str] = Counter()
        for family in families(text):
            for one in family.samples:
                if one.name == f"penstock_gateway_{name}":
                    found[one.labels.get(label, "")] += one.value
        return found


@asynccontextmanager
async def world(tmp_path: Path, *, tells: bool) -> AsyncIterator[World]:
    async with engine_processes(tmp_path, "e0", "e1", options=("--time-scale=4",), tells=tells) as engines:
        ends = tuple(engine.endpoint for engine in engines)
        route = service(
            revisions=(RevisionRoute(name="m-1", weight_percent=100, endpoints=ends),),
            tokenizer=BYTES_TOKENIZER if tells else "",
            metrics_dialect="vllm",
            routing=RoutingRoute(block_tokens=BLOCK),
        )
        async with (
            Gateway(tmp_path, route, models=tmp_path, tokenizer=TOKENIZING) as gateway,
            httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client,
        ):
            yield World(engines, client, tells=tells)


async def settled(it: World) -> None:
    """KV events of both are heard, and each subject has its place."""
    async with asyncio.timeout(30):
        while it.tells and not (await it.samples("kv_event_batches_total", "outcome"))["complete"] >= 2:
            await it.ask("nothing")
    for _ in range(3):
        for subject in SUBJECTS:
            await it.ask(subject)


async def blocks_of(it: World, engine: EngineProcess) -> float:
    return (await it.samples("kv_index_blocks", "endpoint"))[engine.name]


async def mistaken_tokens(it: World) -> float:
    """How many were expected to be cached where requests went, and were not."""
    tokens = await it.samples("routed_prompt_tokens_total", "kind")
    return tokens["predicted"] - tokens["agreed"]


async def keep_asking(it: World, stop: asyncio.Event) -> None:
    """What was asked before, and now and then something new, which the one that has less to do gets."""
    number = 0
    while not stop.is_set():
        await it.ask(SUBJECTS[number % len(SUBJECTS)] if number % 4 else f"mill {len(it.asked)}")
        number += 5


async def restarted(it: World) -> None:
    """One tells of another start, as soon as it tells anything."""
    async with asyncio.timeout(30):
        while not (await it.samples("kv_event_batches_total", "outcome"))["restarted"]:
            await it.ask(f"mill {len(it.asked)}")


@pytest.mark.parametrize("tells", [True, False], ids=["events", "no events"])
async def test_who_comes_back_empty_while_requests_go_on_draws_nobody_for_what_it_held(
    tmp_path: Path, tells: bool
) -> None:
    async with world(tmp_path, tells=tells) as it:
        await settled(it)
        victim, stop = max(it.engines, key=lambda one: it.places()[one.name]), asyncio.Event()
        held = await blocks_of(it, victim)
        callers = [asyncio.create_task(keep_asking(it, stop)) for _ in range(3)]
        it.asked.clear()
        await victim.kill()
        async with asyncio.timeout(30):
            while await blocks_of(it, victim):
                await asyncio.sleep(0.01)
        await victim.start()
        returned_at, mistaken = time.monotonic(), await mistaken_tokens(it)
        async with asyncio.timeout(30):
            while not it.places()[victim.name] or time.monotonic() < returned_at + 2:
                await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*callers)
        assert held > 0
        assert {one.status for one in it.asked} == {200}
        assert await mistaken_tokens(it) - mistaken < PROMPT_TOKENS
        if tells:
            await restarted(it)


async def test_who_comes_back_unseen_is_known_by_its_metrics_where_it_tells_nothing(
    tmp_path: Path, read: set[int]
) -> None:
    async with world(tmp_path, tells=False) as it:
        await settled(it)
        victim = max(it.engines, key=lambda one: it.places()[one.name])
        await until(lambda: victim.port in read)
        assert await blocks_of(it, victim)
        await victim.kill()
        await victim.start()
        async with asyncio.timeout(SELDOM_S + 2 * EVERY_S + 10):
            while await blocks_of(it, victim):
                await asyncio.sleep(0.05)


async def test_who_comes_back_unseen_is_known_by_the_first_batch_that_it_tells(tmp_path: Path) -> None:
    async with world(tmp_path, tells=True) as it:
        await settled(it)
        victim = max(it.engines, key=lambda one: it.places()[one.name])
        await victim.kill()
        await victim.start()
        await restarted(it)
        async with asyncio.timeout(30):
            while not (await it.samples("kv_index_precise", "endpoint"))[victim.name]:
                await asyncio.sleep(0.01)
        fresh = {one.subject for one in it.asked if one.endpoint == victim.name and "mill" in one.subject}
        mistaken = await mistaken_tokens(it)
        it.asked.clear()
        for subject in sorted(fresh):
            await it.ask(subject)
        assert all(one.endpoint == victim.name and one.cached_tokens > 0 for one in it.asked)
        for subject in SUBJECTS:
            await it.ask(subject)
        assert await mistaken_tokens(it) - mistaken < PROMPT_TOKENS
