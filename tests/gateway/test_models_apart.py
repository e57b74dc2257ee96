"""Models that share an engine, or an endpoint, never share blocks: what one holds is no reason to send another there."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import pytest
from engine_processes import BLOCK, engine_processes
from gateway_world import Gateway, service
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families as families

from penstock.contracts.exchange import RevisionRoute, RoutingRoute
from penstock.contracts.tokenizing import BYTES_TOKENIZER
from plain_http import PLAIN

TOKENIZING = (sys.executable, "-m", "penstock.engine.tokenizing")
PROMPT = "About the weir and its keeper: " * 100
LEAST_BLOCKS = 40
"""Of those of the prompt; more than 500 tokens are in so many."""


async def told(client: httpx.AsyncClient, name: str, **labels: str) -> float:
    """The sum of a gateway's samples of this name and these labels."""
    text = (await client.get("/metrics")).text
    return sum(
        s.value
        for family in families(text)
        for s in family.samples
        if s.name == f"penstock_gateway_{name}" and labels.items() <= s.labels.items()
    )


async def predicted(client: httpx.AsyncClient) -> float:
    return await told(client, "routed_prompt_tokens_total", kind="predicted")


async def tell(client: httpx.AsyncClient, name: str, least: float) -> None:
    """Wait for what other processes bring about."""
    async with asyncio.timeout(30):
        while await told(client, name) < least:
            await asyncio.sleep(0.02)


async def ask(client: httpx.AsyncClient, model: str) -> int:
    """How many tokens were cached."""
    answer = await client.post("/v1/completions", json={"model": model, "prompt": PROMPT, "max_tokens": 2})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])


@pytest.mark.parametrize("tells", [True, False], ids=["events", "no events"])
async def test_a_model_and_its_adapters_are_expected_where_each_was_and_nowhere_else(
    tmp_path: Path, tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.gateway.tokenizers.is_quick", lambda took_s, whole_s: True)
    monkeypatch.setattr("penstock.gateway.tokenizers.patience_s", lambda size_bytes: 30.0)
    async with engine_processes(tmp_path, "e0", "e1", options=("--max-loras=2",), tells=tells) as engines:
        async with httpx.AsyncClient(**PLAIN, timeout=30) as client:
            for engine in engines:
                for name in ("poet", "clerk"):
                    url = f"http://127.0.0.1:{engine.port}/v1/load_lora_adapter"
                    loaded = await client.post(url, json={"lora_name": name, "lora_path": "/x"})
                    assert loaded.status_code == 200
        ends = tuple(engine.endpoint for engine in engines)
        route = service(
            revisions=(RevisionRoute(name="m-1", weight_percent=100, endpoints=ends),),
            tokenizer=BYTES_TOKENIZER if tells else "",
            adapters=("poet", "clerk"),
            aliases=("poet", "clerk"),
            metrics_dialect="vllm",
            routing=RoutingRoute(block_tokens=BLOCK),
        )
        async with (
            Gateway(tmp_path, route, models=tmp_path, tokenizer=TOKENIZING) as gateway,
            httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client,
        ):
            if tells:
                await tell(client, "kv_index_precise", len(engines))
            for model in ("m", "poet", "clerk"):
                before, blocks = await predicted(client), await told(client, "kv_index_blocks")
                assert await ask(client, model) == 0
                assert await predicted(client) == before
                await tell(client, "kv_index_blocks", blocks + LEAST_BLOCKS)
                assert await ask(client, model) > 500
                assert await predicted(client) > before + 500


async def test_two_services_at_one_address_know_of_each_other_s_prompts_nothing(tmp_path: Path) -> None:
    async with engine_processes(tmp_path, "e0", "e1", tells=False) as engines:
        ends = tuple(engine.endpoint for engine in engines)
        routes = [
            replace(
                service(
                    revisions=(
                        RevisionRoute(
                            name=f"{name}-1",
                            weight_percent=100,
                            endpoints=tuple(replace(one, name=f"{name}-{one.name}") for one in ends),
                        ),
                    ),
                    routing=RoutingRoute(block_tokens=BLOCK),
                ),
                name=name,
                uid=name,
            )
            for name in ("a", "b")
        ]
        async with (
            Gateway(tmp_path, *routes) as gateway,
            httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client,
        ):
            for name in ("a", "b"):
                before = await predicted(client)
                await ask(client, name)
                assert await predicted(client) == before
                await ask(client, name)
                assert await predicted(client) > before + 500
