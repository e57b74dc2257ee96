"""Engines' own metrics reach their loads, and what they said is forgotten when they say it no more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from penstock.contracts.exchange import Endpoint
from penstock.contracts.scheduling import UNKNOWN, Load
from penstock.gateway import polls
from penstock.gateway.polls import Polled, Polls
from penstock.kit.errors import Unavailable

FULL = (
    "vllm:num_requests_waiting 2\nvllm:num_requests_running 3\nvllm:kv_cache_usage_perc 0.5\n"
    'vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1\n'
    'vllm:lora_requests_info{max_lora="2",running_lora_adapters="poet",waiting_lora_adapters=""} 5\n'
)


def load(name: str = "a", port: int = 8080) -> Load:
    return Load(
        endpoint=Endpoint(
            name=name, address="127.0.0.1", port=8000, metrics_port=port, metrics_path="/metrics"
        )
    )


class Engine:
    """Stands in for the scrape: in virtual time there are no sockets."""

    def __init__(self) -> None:
        self.answer: str | None = FULL
        self.takes_s = 0.01
        self.asked: list[tuple[float, str]] = []
        self.at_once = self.most_at_once = 0

    async def scrape(self, host: str, port: int, path: str, *, timeout_s: float) -> str:
        assert (host, path) == ("127.0.0.1", "/metrics")
        self.asked.append((asyncio.get_running_loop().time(), str(port)))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.takes_s)
        self.at_once -= 1
        if self.answer is None:
            raise Unavailable("no answer")
        return self.answer


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(polls, "scrape", engine.scrape)
    return engine


@contextlib.asynccontextmanager
async def polling(*loads: Load, sized: list[int] | None = None) -> AsyncIterator[Polls]:
    said = sized if sized is not None else []
    running = Polls(lambda one: said.append(one.kv_tokens))
    running.watch([Polled(one, "vllm") for one in loads])
    try:
        yield running
    finally:
        running.close()
        await asyncio.sleep(0)


@pytest.mark.looptime
async def test_what_an_engine_says_stands_in_its_load_within_a_period(engine: Engine) -> None:
    one, sized = load(), []
    async with polling(one, sized=sized):
        await asyncio.sleep(polls.EVERY_S + 0.1)
    assert (one.waiting, one.running, one.kv_use, one.kv_tokens) == (2, 3, 0.5, 1600)
    assert (one.adapters, one.adapter_slots) == (frozenset({"poet"}), 2)
    assert sized == [1600]


@pytest.mark.looptime
async def test_the_size_of_a_cache_is_told_once_and_when_it_changes(engine: Engine) -> None:
    one, sized = load(), []
    async with polling(one, sized=sized):
        await asyncio.sleep(5 * polls.EVERY_S)
        engine.answer = FULL.replace('"100"', '"200"')
        await asyncio.sleep(2 * polls.EVERY_S)
        engine.answer = "vllm:num_requests_waiting 1\n"
        await asyncio.sleep(2 * polls.EVERY_S)
    assert sized == [1600, 3200]
    assert one.kv_tokens == 3200
    assert (one.waiting, one.running, one.kv_use) == (1, UNKNOWN, UNKNOWN)


@pytest.mark.looptime
async def test_an_engine_that_falls_silent_is_unknown_after_some_misses_and_asked_seldom(
    engine: Engine,
) -> None:
    one = load()
    async with polling(one):
        await asyncio.sleep(2 * polls.EVERY_S)
        engine.answer = None
        await asyncio.sleep((polls.MISSED - 1) * polls.EVERY_S)
        assert one.waiting == 2
        await asyncio.sleep(2 * polls.EVERY_S)
        assert (one.waiting, one.running, one.kv_use, one.adapters) == (UNKNOWN,) * 3 + (frozenset(),)
        assert one.kv_tokens == 1600
        engine.asked.clear()
        await asyncio.sleep(10 * polls.SELDOM_S)
        assert 9 <= len(engine.asked) <= 11
        engine.answer = FULL
        await asyncio.sleep(polls.SELDOM_S + polls.EVERY_S)
        assert one.waiting == 2


@pytest.mark.looptime
async def test_who_began_at_another_time_than_before_is_said_to_have_restarted_once(engine: Engine) -> None:
    one, restarted = load(), []
    polls_of_one = Polls(restarted=lambda load: restarted.append(load.endpoint.name))
    polls_of_one.watch([Polled(one, "vllm")])
    for began in ("1000.2", "1000", "NaN", "1000.1"):
        engine.answer = f"{FULL}process_start_time_seconds {began}\n"
        await asyncio.sleep(polls.EVERY_S)
        assert restarted == []
    engine.answer = f"{FULL}process_start_time_seconds 4000\n"
    await asyncio.sleep(3 * polls.EVERY_S)
    assert restarted == ["a"]
    engine.answer = None
    await asyncio.sleep(2 * polls.EVERY_S)
    engine.answer = f"{FULL}process_start_time_seconds 5000\n"
    await asyncio.sleep(2 * polls.EVERY_S)
    assert restarted == ["a", "a"]
    polls_of_one.close()
    await asyncio.sleep(0)


@pytest.mark.looptime
async def test_a_text_that_would_take_long_to_read_is_not_read(engine: Engine) -> None:
    engine.answer = FULL + "#" * polls.MAX_TEXT
    one = load()
    async with polling(one):
        await asyncio.sleep(2 * polls.EVERY_S)
    assert one.waiting == UNKNOWN


@pytest.mark.looptime
async def test_many_engines_are_asked_at_many_times_and_few_at_once(engine: Engine) -> None:
    engine.takes_s = 0.5
    async with polling(*[load(f"pod-{number}", 9000 + number) for number in range(100)]):
        await asyncio.sleep(60)
    assert engine.most_at_once == polls.AT_ONCE
    assert {port for _, port in engine.asked} == {str(9000 + number) for number in range(100)}
    starts = [at for at, _ in engine.asked if at < polls.EVERY_S]
    assert max(starts) - min(starts) > polls.EVERY_S / 2


@pytest.mark.looptime
async def test_who_left_or_says_nothing_is_not_asked(engine: Engine) -> None:
    gone, silent = load("gone", 9001), load("silent", 0)
    async with polling(gone, silent) as running:
        await asyncio.sleep(2 * polls.EVERY_S)
        running.watch([Polled(load("other", 9002), "")])
        await asyncio.sleep(0.1)
        engine.asked.clear()
        await asyncio.sleep(10 * polls.EVERY_S)
        assert engine.asked == []
