"""Through the whole gateway: turns of a conversation go where their tokens are, and a tokenizer that is wrong is dropped without anybody noticing."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_world import Engine, Gateway, Script, service
from prometheus_client.parser import text_string_to_metric_families as families

from penstock.contracts.exchange import RoutingRoute
from penstock.engine.text import Text
from penstock.engine.wishes import Bounds, read_wish
from penstock.kit.clock import SystemClock
from plain_http import PLAIN

TINY = Path(__file__).parents[2] / "src/penstock/models/penstock-tiny"
TEXT = Text(TINY)
BOUNDS = Bounds("m", 1 << 30, 1 << 30, TEXT.size)


def tokens_of(body: dict[str, Any]) -> int:
    return len(read_wish(body, TEXT, BOUNDS, chat=True).prompts[0])


def counts(more: int) -> Script:
    """An engine that tells how many tokens it counted, and `more`."""

    async def answer(engine: Engine, head: bytes, reader: object, writer: asyncio.StreamWriter) -> None:
        tokens = tokens_of(json.loads(engine.requests[-1][1])) + more
        usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
        told = json.dumps({"choices": [], "usage": usage}).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(told), told)
        )

    return answer


@asynccontextmanager
async def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, more: int = 0
) -> AsyncIterator[httpx.AsyncClient]:
    """A tokenizer that is slow, since the machine is, is waited for and not given up."""
    monkeypatch.setattr("penstock.gateway.tokenizers.patience_s", lambda size_bytes: 30.0)
    monkeypatch.setattr("penstock.gateway.tokenizers.is_quick", lambda took_s, whole_s: True)
    shutil.copytree(TINY, tmp_path / "model")
    engines = [Engine(f"e{i}", counts(more)) for i in range(2)]
    for engine in engines:
        await engine.start()
    route = service(*engines, tokenizer="model", routing=RoutingRoute())
    command = (sys.executable, "-m", "penstock.engine.tokenizing")
    async with (
        Gateway(tmp_path, route, models=tmp_path, tokenizer=command, clock=SystemClock()) as gateway,
        httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client,
    ):
        yield client


async def sample(client: httpx.AsyncClient, name: str) -> dict[str, float]:
    text = (await client.get("/metrics")).text
    return {
        s.labels.get("reason") or s.labels.get("endpoint", ""): s.value
        for family in families(text)
        for s in family.samples
        if s.name == name
    }


async def ask(client: httpx.AsyncClient, turns: int, about: str) -> tuple[dict[str, Any], str]:
    messages = [
        {"role": "assistant" if i % 2 else "user", "content": f"{about} {i} " * 300} for i in range(turns)
    ]
    body = {"model": "m", "messages": messages, "max_tokens": 1}
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    return body, answer.headers["x-penstock-endpoint"]


async def test_blocks_are_those_of_tokens_once_the_tokenizer_is_there_and_turns_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as client:
        async with asyncio.timeout(40):
            for number in range(1000):
                before = await sample(client, "penstock_gateway_kv_index_blocks")
                body, first = await ask(client, 1, f"a weir {number}")
                blocks = await sample(client, "penstock_gateway_kv_index_blocks")
                if sum(blocks.values()) - sum(before.values()) == tokens_of(body) // 64:
                    break
                await asyncio.sleep(0.05)
        for turns in (3, 5, 7):
            assert (await ask(client, turns, f"a weir {number}"))[1] == first
        assert "disagrees" not in await sample(client, "penstock_gateway_untokenized_total")


async def test_a_tokenizer_that_is_wrong_is_dropped_and_turns_return_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch, more=1) as client:
        async with asyncio.timeout(40):
            for number in range(1000):
                await ask(client, 1, f"a weir {number}")
                if "disagrees" in await sample(client, "penstock_gateway_untokenized_total"):
                    break
        assert (await sample(client, "penstock_gateway_untokenized_total"))["disagrees"] == 1.0
        _, first = await ask(client, 1, "a sluice")
        for turns in (3, 5, 7):
            assert (await ask(client, turns, "a sluice"))[1] == first


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/serving/default/m/v1/chat/completions"])
async def test_a_prompt_of_two_megabytes_goes_through(tmp_path: Path, path: str) -> None:
    engines = [Engine(f"e{i}") for i in range(2)]
    for engine in engines:
        await engine.start()
    async with (
        Gateway(tmp_path, service(*engines, routing=RoutingRoute()), clock=SystemClock()) as gateway,
        httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client,
    ):
        body = {"model": "m", "messages": [{"role": "user", "content": "a weir " * 300_000}]}
        ends = {(await client.post(path, json=body)).headers["x-penstock-endpoint"] for _ in range(4)}
        blocks = await sample(client, "penstock_gateway_kv_index_blocks")
    assert len(ends) == 1
    assert sum(blocks.values()) == 2048
