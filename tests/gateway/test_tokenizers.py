"""With the model's tokenizer at hand prompts are hashed as the engine has them, until it turns out that the engine has them otherwise."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prompt_calls import SERVICE, Sent, call_of, shared

from penstock.contracts.exchange import Endpoint, RevisionRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.contracts.tokenizing import Ask
from penstock.engine.text import Text
from penstock.engine.wishes import Bounds, read_wish
from penstock.gateway.kv_index import KvIndex
from penstock.gateway.prompts import MAX_HASHED_TOKENS, Prompts
from penstock.gateway.tokenizer_process import MAX_WAITING, TokenizerProcess
from penstock.gateway.tokenizers import Tokenizers
from penstock.kit.clock import SteadyClock
from penstock.kit.errors import Unavailable
from penstock.kit.hashing import token_blocks

TINY = Path(__file__).parents[2] / "src/penstock/models/penstock-tiny"
COMMAND = (sys.executable, "-m", "penstock.engine.tokenizing")
KEY = (SERVICE.namespace, SERVICE.name)
BLOCK = 64
TEXT = Text(TINY)
BOUNDS = Bounds("m", 1 << 30, 1 << 30, TEXT.size)


def served(folder: str = "model", endpoints: int = 2) -> ServiceRoute:
    ends = tuple(Endpoint(name=f"e{i}", address="127.0.0.1", port=80 + i) for i in range(endpoints))
    revision = RevisionRoute(name="r", weight_percent=100, endpoints=ends)
    return msgspec.structs.replace(SERVICE, tokenizer=folder, revisions=(revision,))


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is waited for, though the machine stands still for a while."""
    monkeypatch.setattr("penstock.gateway.tokenizers.patience_s", lambda size_bytes: 30.0)


class Bench:
    """Prompts with a process behind them."""

    def __init__(self, root: Path, command: tuple[str, ...]) -> None:
        self.process = TokenizerProcess(command)
        self.tokenizers = Tokenizers(self.process, root, SteadyClock())
        self.prompts = Prompts(self.tokenizers)
        self.changed: list[tuple[str, str]] = []
        self.tokenizers.on_change = self.changed.append

    async def settled(self, service: ServiceRoute, changes: int = 1) -> None:
        self.tokenizers.keep([service])
        await until(lambda: len(self.changed) >= changes or bool(self.tokenizers.counts))

    async def of(self, call: Sent, service: ServiceRoute) -> Prompt:
        if self.prompts.waits(call, service):
            await self.prompts.prepare(call, service)
        return self.prompts.of(call, service)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def bench(tmp_path: Path, command: tuple[str, ...] = COMMAND) -> AsyncIterator[Bench]:
    shutil.copytree(TINY, tmp_path / "model", dirs_exist_ok=True)
    one = Bench(tmp_path, command)
    try:
        yield one
    finally:
        await one.tokenizers.close()


def chat(turns: int, **more: Any) -> dict[str, Any]:
    messages = [
        {"role": "assistant" if i % 2 else "user", "content": f"turn {i} is about the weir. " * 60}
        for i in range(turns)
    ]
    return {"model": "m", "messages": messages, "max_tokens": 1, **more}


def truth(body: dict[str, Any]) -> list[int]:
    return read_wish(body, TEXT, BOUNDS, chat=True).prompts[0]


async def test_a_prompt_has_the_blocks_that_the_engine_tells_of(tmp_path: Path) -> None:
    service, body = served(), chat(3)
    async with bench(tmp_path) as b:
        before = b.prompts.of(call_of(body), service)
        await b.settled(service)
        assert b.prompts.is_precise(service)
        prompt = await b.of(call_of(body), service)
    ids = truth(body)
    assert before.hashes
    assert shared(before, prompt) == 0
    assert prompt.tokens == len(ids)
    assert prompt.block_tokens == BLOCK
    index = KvIndex(BLOCK, service.engine_model)
    index.add("e0")
    index.restarted("e0")
    index.stored("e0", None, list(range(len(ids) // 16)), ids[: len(ids) // 16 * 16], 16)
    assert index.match(prompt.hashes, 0.0) == {"e0": len(ids) // BLOCK}


async def test_turns_share_and_tools_adapters_and_salts_do_not(tmp_path: Path) -> None:
    service = served()
    async with bench(tmp_path) as b:
        await b.settled(service)
        one = await b.of(call_of(chat(3)), service)
        later = await b.of(call_of(chat(5)), service)
        others = [
            await b.of(call_of(body), service)
            for body in (
                chat(3, tools=[{"type": "function", "function": {"name": "look"}}]),
                chat(3, cache_salt="s"),
                chat(3) | {"model": "an-adapter"},
            )
        ]
    assert shared(one, later) >= len(one.hashes) - 1 > 0
    assert [shared(one, other) for other in others] == [0, 0, 0]


async def test_short_prompts_and_what_no_template_is_for_wait_for_nothing(tmp_path: Path) -> None:
    service = served()
    async with bench(tmp_path) as b:
        await b.settled(service)
        for body in (
            {"model": "m", "prompt": "short"},
            {"model": "m", "input": "word " * 9999},
            {"model": "m"},
        ):
            call = call_of(body)
            assert not b.prompts.waits(call, service)
            assert not b.prompts.of(call, service).hashes
        call = call_of(chat(3))
        await b.of(call, service)
        assert not b.prompts.waits(call, service)


async def test_a_prompt_that_the_template_refuses_goes_without_hashes(tmp_path: Path) -> None:
    service = served()
    async with bench(tmp_path) as b:
        await b.settled(service)
        prompt = await b.of(
            call_of({"model": "m", "messages": [{"role": 7, "content": "x" * 5000}]}), service
        )
        assert b.tokenizers.counts == {"refused": 1}
        assert b.prompts.is_precise(service)
    assert not prompt.hashes
    assert prompt.tokens > 1000


def answer(call: Sent, service: ServiceRoute, tokens: int, cached: int = -1) -> Sent:
    call.service, call.prompt_tokens, call.cached_tokens = service, tokens, cached
    call.first_byte_at = call.started + 10.0
    return call


async def test_a_tokenizer_that_counts_otherwise_than_the_engine_is_dropped_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = served()
    async with bench(tmp_path) as b:
        await b.settled(service)
        for _ in range(12):
            call = call_of(chat(3))
            prompt = await b.of(call, service)
            b.prompts.answered(answer(call, service, prompt.tokens + 1))
        assert not b.prompts.is_precise(service)
        assert b.changed == [KEY, KEY]
        assert b.tokenizers.counts == {"disagrees": 1}
        assert "are hashed as text: their tokenizer counts other tokens than the engine" in caplog.text
        text = Prompts().of(call_of(chat(3)), service)
        assert (await b.of(call_of(chat(3)), service)).hashes == text.hashes


async def test_one_that_takes_most_of_the_time_until_answers_begin_is_dropped(tmp_path: Path) -> None:
    service = served()
    async with bench(tmp_path) as b:
        await b.settled(service)
        for number in range(40):
            call = call_of(chat(3))
            prompt = await b.of(call, service)
            if call.told is not None:
                call.told = msgspec.structs.replace(call.told, took_s=6.0 if number else 0.0)
            b.prompts.answered(answer(call, service, prompt.tokens))
        assert b.tokenizers.counts == {"slow": 1}


async def test_one_that_agrees_stays_and_hits_that_never_come_true_drop_it(tmp_path: Path) -> None:
    service = served()
    async with bench(tmp_path) as b:
        await b.settled(service)
        for cached, answers, is_used in ((512, 20, True), (0, 60, False)):
            for _ in range(answers):
                call = call_of(chat(3))
                prompt = await b.of(call, service)
                b.prompts.answered(answer(call, service, prompt.tokens, cached), expected_tokens=600)
            assert b.prompts.is_precise(service) is is_used
        assert b.tokenizers.counts == {"hits_fail": 1}


@pytest.mark.parametrize(
    ("service", "command", "reason"),
    [
        (served("nowhere"), COMMAND, "missing_tokenizer"),
        (served(), ("/nowhere/python",), "cannot_start"),
        (served(), (sys.executable, "-c", "0"), "died"),
        (served(), (sys.executable, "-c", "import os; os.write(0, b'x' * 99)"), "died"),
    ],
)
async def test_what_cannot_be_used_leaves_prompts_as_text(
    tmp_path: Path, service: ServiceRoute, command: tuple[str, ...], reason: str
) -> None:
    async with bench(tmp_path, command) as b:
        await b.settled(service)
        assert b.tokenizers.counts == {reason: 1}
        assert b.process._process is None
        assert (await b.of(call_of(chat(3)), service)).hashes
        await b.tokenizers.close()


@pytest.mark.parametrize("service", [served(endpoints=1), served(""), served("../model"), served("/model")])
async def test_where_there_is_nothing_to_choose_or_a_path_leads_elsewhere_nothing_is_loaded(
    tmp_path: Path, service: ServiceRoute
) -> None:
    async with bench(tmp_path) as b:
        b.tokenizers.keep([service])
        await asyncio.sleep(0.02)
        assert not b.prompts.is_precise(service)
        assert not b.tokenizers.counts


async def test_what_rested_is_tried_again_and_a_service_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    service = served("late-model")
    async with bench(tmp_path) as b:
        await b.settled(service)
        assert not b.prompts.is_precise(service)
        shutil.copytree(TINY, tmp_path / "late-model")
        b.tokenizers.tidy(SteadyClock().monotonic())
        await asyncio.sleep(0.02)
        assert not b.changed
        b.tokenizers.tidy(SteadyClock().monotonic() + 100.0)
        await until(lambda: b.prompts.is_precise(service))
        b.tokenizers.keep([])
        assert not b.prompts.is_precise(service)
        assert b.changed == [KEY, KEY]


async def test_a_process_that_dies_is_started_again_when_it_is_next_asked(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.settled(served())
        process = b.process._process
        assert process is not None
        process.kill()
        await until(lambda: b.process._process is None)
        told = await b.process.ask(Ask(str(TINY), json.dumps(chat(2)).encode(), 64, 1, 9999), 30.0)
        assert told.tokens == len(truth(chat(2)))


async def test_what_takes_too_long_is_not_waited_for_and_too_much_is_not_asked(tmp_path: Path) -> None:
    process = TokenizerProcess((sys.executable, "-c", "import sys; sys.stdin.buffer.read()"))
    try:
        asks = [asyncio.create_task(process.ask(Ask("x"), 0.05)) for _ in range(MAX_WAITING + 1)]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
        codes = [outcome.code for outcome in outcomes if isinstance(outcome, Unavailable)]
        assert codes.count("late") == MAX_WAITING
        with pytest.raises(Unavailable, match="too many"):
            await process.ask(Ask("x"), 0.05)
    finally:
        await process.close()


async def test_a_prompt_of_a_megabyte_is_hashed_as_far_as_it_is_looked_up(tmp_path: Path) -> None:
    service = served()
    body = chat(1) | {"messages": [{"role": "user", "content": "a weir and a sluice " * 55_000}]}
    async with bench(tmp_path) as b:
        await b.settled(service)
        ask = Ask(str(TINY), json.dumps(body).encode(), BLOCK, 1, MAX_HASHED_TOKENS)
        told = await b.process.ask(ask, 30.0)
    ids = TEXT.encode(TEXT.render(body["messages"], None)[:50_000])
    blocks = len(ids) // BLOCK - 1
    assert len(ask.body) > 1 << 20
    assert len(told.hashes) // 8 == MAX_HASHED_TOKENS // BLOCK
    assert [*memoryview(told.hashes).cast("Q")][:blocks] == token_blocks(ids, BLOCK, 1)[:blocks]
