"""Prompts that are computed by one engine and answered by another: the handshake, its failures, and two simulated engines that speak it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from gateway_world import Engine, SetClock, service, until
from msgspec.structs import replace

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute
from penstock.contracts.scheduling import Prompt
from penstock.gateway.demand import Demand
from penstock.gateway.disaggregated import REST_S, Disaggregated, Elsewhere, prefill_body, with_transfer
from penstock.gateway.router import Router, Trip
from penstock.gateway.wire.pool import Pool

sys.path.append(str(Path(__file__).parents[1] / "engine" / "simulated"))
from sim_process import sim_process

PATH = "/v1/completions"
TOKENS = 4000
BODY = orjson.dumps({"model": "m", "prompt": "x" * TOKENS, "max_tokens": 50, "stream": True})
PARAMS = {"do_remote_prefill": True, "remote_engine_id": "p", "remote_block_ids": [0, 1]}


def http(document: object, status: bytes = b"200 OK") -> bytes:
    body = orjson.dumps(document)
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


GOOD = {"kv_transfer_params": PARAMS, "usage": {"prompt_tokens": TOKENS, "completion_tokens": 1}}


async def prefilling(answer: bytes | None) -> Engine:
    async def script(engine: Engine, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await reader.read(1)
        else:
            writer.write(answer)

    engine = Engine("p", script)
    await engine.start()
    return engine


class World:
    """A service with one endpoint that answers, and one that computes prompts."""

    def __init__(self, prefill: Endpoint, **routing: Any) -> None:
        answering = Endpoint(name="d", address="127.0.0.1", port=1)
        revision = RevisionRoute(name="r", weight_percent=100, endpoints=(answering,), prefill=(prefill,))
        route = service(revisions=(revision,), routing=RoutingRoute(**routing))
        self.pool, self.clock = Pool(), SetClock()
        self.router = Router(route, open_profile)
        self.demand = Demand()
        self.disaggregated = Disaggregated(self.router, self.pool, self.clock, self.demand)
        self.bodies: list[bytes] = []

    def send(self, tokens: int = TOKENS, hashes: tuple[int, ...] = ()) -> Trip:
        prompt = Prompt(draw=1, tokens=tokens, hashes=hashes, block_tokens=64)
        trip = self.router.sent("d", prompt, {}, self.clock.monotonic())
        assert trip is not None
        return trip

    def compute(
        self, trip: Trip, body: bytes = BODY, path: str = PATH, timeout_s: float = 30.0
    ) -> Elsewhere | None:
        return self.disaggregated.compute(
            trip, {}, path, body, message=request(path), done=self.bodies.append, timeout_s=timeout_s
        )

    def uncached(self) -> tuple[float, float]:
        return self.router.loads["d"].uncached_tokens, self.router.loads["p"].uncached_tokens


def request(path: str) -> Callable[[Endpoint, bytes], bytes]:
    def message(endpoint: Endpoint, body: bytes) -> bytes:
        return (
            f"POST {path} HTTP/1.1\r\nhost: {endpoint.name}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )

    return message


async def test_what_the_one_says_goes_to_the_other_with_the_request() -> None:
    engine = await prefilling(http(GOOD))
    world = World(engine.endpoint)
    trip = world.send()
    assert world.compute(trip) is not None
    assert world.uncached() == (0.0, TOKENS), "the prompt waits where it is computed, and nowhere else"
    await until(lambda: world.bodies)
    asked = orjson.loads(engine.requests[0][1])
    assert (asked["max_tokens"], asked["stream"], asked["prompt"]) == (1, False, "x" * TOKENS)
    assert asked["kv_transfer_params"]["do_remote_decode"] is True
    assert orjson.loads(world.bodies[0]) == {**orjson.loads(BODY), "kv_transfer_params": PARAMS}
    assert world.uncached() == (0.0, 0.0)
    assert world.router.loads["p"].in_flight == 0
    assert world.disaggregated.outcomes == {"computed": 1}
    world.router.began(trip, world.clock.monotonic())
    world.router.ended(trip, world.clock.monotonic(), TOKENS, 0, 50)
    assert world.uncached() == (0.0, 0.0)
    world.pool.close()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (http({"error": "no"}, b"400 Bad Request"), "refused"),
        (http({"error": "no"}, b"503 Gone"), "failed"),
        (http({"choices": []}), "no_transfer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n[1]", "no_transfer"),
        (None, "late"),
    ],
)
async def test_whatever_fails_it_is_answered_without(answer: bytes | None, outcome: str) -> None:
    engine = await prefilling(answer)
    world = World(engine.endpoint)
    trip = world.send()
    assert world.compute(trip, timeout_s=0.1 if outcome == "late" else 30.0) is not None
    await until(lambda: world.bodies)
    assert world.bodies == [BODY]
    assert world.uncached() == (TOKENS, 0.0), "now it is computed where it is answered"
    assert world.disaggregated.outcomes == {outcome: 1}
    world.pool.close()


async def test_one_that_failed_is_left_alone_for_a_while() -> None:
    engine = await prefilling(http({}, b"500 Oh"))
    world = World(engine.endpoint)
    assert world.compute(world.send()) is not None
    await until(lambda: world.bodies)
    assert world.compute(world.send()) is None
    world.clock.at += REST_S
    assert world.compute(world.send()) is not None
    world.pool.close()


async def test_a_request_that_is_refused_speaks_for_itself_alone() -> None:
    engine = await prefilling(http({}, b"400 Bad Request"))
    world = World(engine.endpoint)
    for _ in range(2):
        assert world.compute(world.send()) is not None
        await until(lambda: world.bodies)
        world.bodies.clear()
    world.pool.close()


async def test_one_that_is_given_up_leaves_nothing_behind() -> None:
    engine = await prefilling(None)
    world = World(engine.endpoint)
    trip = world.send()
    elsewhere = world.compute(trip)
    assert elsewhere is not None
    await until(lambda: engine.requests)
    elsewhere.give_up()
    elsewhere.give_up()
    world.router.ended(trip, world.clock.monotonic(), -1, -1, -1)
    assert world.uncached() == (0.0, 0.0)
    assert not world.bodies
    assert world.disaggregated.outcomes == {"given_up": 1}
    async with asyncio.timeout(30):
        await engine.gone.wait()
    world.pool.close()


async def test_short_prompts_embeddings_and_others_halves_are_not_sent_around() -> None:
    world = World(Endpoint(name="p", address="127.0.0.1", port=2))
    assert world.compute(world.send(tokens=100)) is None
    assert world.compute(world.send(), path="/v1/embeddings") is None
    assert world.compute(world.send(), body=with_transfer(BODY, PARAMS)) is None
    assert world.compute(world.send(), body=b'{"prompt":["a","b"]}') is None
    assert world.compute(world.send(), body=b'{"prompt":"a","n":2}') is None
    assert world.router.loads["p"].in_flight == 0
    world.pool.close()


def test_the_smallest_body_is_made_of_any() -> None:
    chat = {"messages": [], "max_completion_tokens": 9, "stream_options": {}, "min_tokens": 5}
    made = orjson.loads(prefill_body(orjson.dumps(chat)) or b"")
    assert made.keys() == {"messages", "max_completion_tokens", "max_tokens", "stream", "kv_transfer_params"}
    assert (made["max_completion_tokens"], made["max_tokens"], made["stream"]) == (1, 1, False)
    assert prefill_body(b"no json") is None


async def test_two_simulated_engines_hand_a_prompt_on(tmp_path: Path) -> None:
    """One that is computed elsewhere is answered sooner; a pause of the machine may hide that of one, but not of all."""
    with (
        sim_process(tmp_path / "p", "--time-scale=1") as computing,
        sim_process(tmp_path / "d", "--time-scale=1") as answering,
    ):
        port = computing.base_url.port
        assert port is not None
        world = World(Endpoint(name="p", address="127.0.0.1", port=port))
        alone_s = (await _posted(answering, _long("computed here"))).elapsed.total_seconds()
        with_kv_s = []
        while not with_kv_s or (min(with_kv_s) >= alone_s / 2 and len(with_kv_s) < 5):
            number = len(with_kv_s)
            assert world.compute(world.send(6000), body=_long(f"{number} handed over")) is not None
            await until(lambda wanted=number + 1: len(world.bodies) == wanted)
            assert world.disaggregated.outcomes == {"computed": number + 1}
            answer = await _posted(answering, world.bodies[-1])
            assert answer.json()["usage"]["completion_tokens"] == 4
            with_kv_s.append(answer.elapsed.total_seconds())
        assert min(with_kv_s) < alone_s / 2, "8,000 tokens take half a second to compute"
        world.pool.close()


def _long(words: str) -> bytes:
    return orjson.dumps({"model": "sim", "prompt": f"{words} " * (24_000 // len(words)), "max_tokens": 4})


async def _posted(client: httpx.Client, body: bytes) -> httpx.Response:
    return await asyncio.to_thread(client.post, PATH, content=body)


@pytest.mark.parametrize(("answer", "failures"), [(http(GOOD), 0), (http({}, b"500 Oops"), 1)])
async def test_computing_prompts_is_demand_of_the_service_that_does_it(answer: bytes, failures: int) -> None:
    engine = await prefilling(answer)
    world = World(replace(engine.endpoint, home="helper/helper-1"))
    assert world.compute(world.send()) is not None
    [under_way] = world.demand.report(world.clock.monotonic(), 1.0, {}, {}, {})
    assert (under_way.namespace, under_way.name, under_way.requests) == ("default", "helper", 1)
    [revision] = under_way.revisions
    assert (revision.name, revision.requests, revision.ended) == ("helper-1", 1, 0)
    assert revision.prompt_tokens > 0
    world.clock.at += 1.0
    await until(lambda: world.bodies)
    [over] = world.demand.report(world.clock.monotonic(), 1.0, {}, {}, {})
    assert (over.failures, over.revisions[0].ended, over.revisions[0].failures) == (failures, 1, failures)
    assert world.demand.report(world.clock.monotonic(), 1.0, {}, {}, {}) == ()


@pytest.mark.parametrize(("asked", "told"), [("m", "helper"), ("adapter", "adapter")])
async def test_the_engine_is_asked_for_the_model_by_the_name_that_it_has_there(asked: str, told: str) -> None:
    engine = await prefilling(http(GOOD))
    world = World(replace(engine.endpoint, home="helper/helper-1", engine_model="helper"))
    assert (
        world.compute(world.send(), BODY.replace(b'"model":"m"', f'"model":"{asked}"'.encode())) is not None
    )
    await until(lambda: world.bodies)
    assert orjson.loads(engine.requests[0][1])["model"] == told
    assert orjson.loads(world.bodies[0])["model"] == asked


async def test_a_prompt_that_is_given_up_is_under_way_no_more() -> None:
    engine = await prefilling(None)
    world = World(replace(engine.endpoint, home="helper/helper-1"))
    elsewhere = world.compute(world.send())
    assert elsewhere is not None
    elsewhere.give_up()
    [told] = world.demand.report(world.clock.monotonic(), 1.0, {}, {}, {})
    assert (told.failures, told.revisions[0].ended) == (0, 1)
    assert world.demand.loads["default", "helper"].is_idle


async def test_a_pod_of_the_service_itself_is_not_counted_twice() -> None:
    engine = await prefilling(http(GOOD))
    world = World(engine.endpoint)
    assert world.compute(world.send()) is not None
    assert world.demand.report(world.clock.monotonic(), 1.0, {}, {}, {}) == ()
