"""Through the whole gateway: prompts are computed elsewhere, new endpoints are warmed, conversations return."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import orjson
from gateway_world import OK, ControlPlane, Engine, Gateway, service, until

from penstock.contracts.exchange import RevisionRoute, RouteTable, RoutingRoute, ServiceRoute
from penstock.kit.clock import SystemClock
from plain_http import PLAIN

PARAMS = {"do_remote_prefill": True, "remote_engine_id": "p"}
LONG = "a long prompt " * 600


def routed(*answering: Engine, prefill: tuple[Engine, ...] = (), version: int = 1) -> RouteTable:
    revision = RevisionRoute(
        name="m-1",
        weight_percent=100,
        endpoints=tuple(one.endpoint for one in answering),
        prefill=tuple(one.endpoint for one in prefill),
    )
    made: ServiceRoute = service(revisions=(revision,), routing=RoutingRoute())
    return RouteTable(version=version, services=(made,))


async def engine(name: str, answer: bytes | None = None) -> Engine:
    async def script(one: Engine, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            writer.write(OK)
        else:
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(answer), answer)
            )

    one = Engine(name, script)
    await one.start()
    return one


def question(content: str, **fields: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **fields}


async def ask(gateway: Gateway, body: dict[str, object]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client:
        return await client.post("/v1/chat/completions", json=body)


async def explained(gateway: Gateway, body: dict[str, object]) -> dict[str, Any]:
    """What the gateway remembers of a request that asks for it."""
    wish = {"x-penstock-explain": "true", "x-request-id": "which"}
    async with httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client:
        assert (await client.post("/v1/chat/completions", json=body, headers=wish)).status_code == 200
        [record] = (await client.get("/penstock/requests/which")).json()["requests"]
    return dict(record)


async def test_the_explanation_says_who_computed_the_prompt(tmp_path: Path) -> None:
    answering = await engine("d")
    computing = await engine("p", orjson.dumps({"kv_transfer_params": PARAMS, "usage": {}}))
    [route] = routed(answering, prefill=(computing,)).services
    async with Gateway(tmp_path, route) as gateway:
        told = await explained(gateway, question(LONG))
        assert (told["endpoint"], told["prefill_endpoint"], told["prefill_outcome"]) == ("d", "p", "computed")


async def test_the_explanation_says_why_the_prompt_was_not_computed_elsewhere(tmp_path: Path) -> None:
    answering, computing = await engine("d"), await engine("p")
    [route] = routed(answering, prefill=(computing,)).services
    await computing.stop()
    async with Gateway(tmp_path, route) as gateway:
        told = await explained(gateway, question(LONG))
        assert (told["endpoint"], told["prefill_endpoint"], told["prefill_outcome"]) == ("d", "p", "broken")


async def test_the_engine_that_answers_is_told_where_the_prompts_kv_lies(tmp_path: Path) -> None:
    answering = await engine("d")
    computing = await engine("p", orjson.dumps({"kv_transfer_params": PARAMS, "usage": {}}))
    [route] = routed(answering, prefill=(computing,)).services
    async with Gateway(tmp_path, route) as gateway:
        answer = await ask(gateway, question(LONG, max_tokens=50))
        assert (answer.status_code, answer.headers["x-penstock-endpoint"]) == (200, "d")
        asked = orjson.loads(computing.requests[0][1])
        assert (asked["max_tokens"], asked["kv_transfer_params"]["do_remote_decode"]) == (1, True)
        sent = orjson.loads(answering.requests[0][1])
        assert (sent["max_tokens"], sent["kv_transfer_params"]) == (50, PARAMS)
        await ask(gateway, question("short"))
        assert len(computing.requests) == 1
        assert "kv_transfer_params" not in orjson.loads(answering.requests[1][1])
        async with httpx.AsyncClient(base_url=gateway.url, **PLAIN, timeout=30) as client:
            told = (await client.get("/metrics")).text
        assert 'penstock_gateway_remote_prompts_total{outcome="computed"} 1' in told


async def test_without_the_one_that_computes_prompts_all_are_answered_still(tmp_path: Path) -> None:
    answering, computing = await engine("d"), await engine("p")
    [route] = routed(answering, prefill=(computing,)).services
    await computing.stop()
    async with Gateway(tmp_path, route) as gateway:
        answer = await ask(gateway, question(LONG))
        assert (answer.status_code, answer.headers["x-penstock-endpoint"]) == (200, "d")
        assert "kv_transfer_params" not in orjson.loads(answering.requests[0][1])


async def test_a_client_that_goes_meanwhile_leaves_nothing_under_way(tmp_path: Path) -> None:
    async def silent(one: Engine, head: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
        await reader.read(1)

    answering, computing = await engine("d"), Engine("p", silent)
    await computing.start()
    [route] = routed(answering, prefill=(computing,)).services
    async with Gateway(tmp_path, route) as gateway:
        asking = asyncio.create_task(ask(gateway, question(LONG)))
        await until(lambda: computing.requests)
        asking.cancel()
        await until(computing.gone.is_set)
        assert not answering.requests


async def test_a_new_endpoint_computes_what_is_hot_before_it_is_asked(tmp_path: Path) -> None:
    old, new = await engine("old"), await engine("new")
    other = await engine("other")
    async with (
        ControlPlane(tmp_path, routed(old, other)) as plane,
        Gateway(tmp_path, *routed(old, other).services, clock=SystemClock()) as gateway,
    ):
        await until(lambda: plane.connections)
        for number in range(6):
            await ask(gateway, question(LONG + f"{number} " * 50))
        plane.send(routed(old, other, new, version=2))
        await until(lambda: new.requests)
        first = orjson.loads(new.requests[0][1])
        assert first["max_tokens"] == 1
        text = first["messages"][0]["content"]
        assert text.startswith(LONG[:8000])
        assert len(text) <= len(LONG) + 256
