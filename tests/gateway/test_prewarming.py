"""New endpoints compute hot beginnings before they take requests; engines are real servers on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from gateway_world import OK, Engine, service, until

from penstock.app.registry import open_profile
from penstock.contracts.exchange import RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.gateway.prewarm import Prewarm
from penstock.gateway.router import Router
from penstock.gateway.wire.pool import Pool
from penstock.kit.clock import SystemClock

BLOCKS = 8
CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hot " * 1000}], "stream": True}


class World:
    """A service of one engine, of which hot beginnings are known; then others join."""

    def __init__(self, first: Engine, **routing: Any) -> None:
        self.routing = RoutingRoute(**routing)
        self.pool, self.clock = Pool(), SystemClock()
        self.router = Router(self.route(first), open_profile)
        self.prewarm = Prewarm(self.pool, self.clock)
        self.join(first)
        for tail in range(4):
            self.ask(first, tail)

    def route(self, *engines: Engine) -> ServiceRoute:
        return service(*engines, routing=self.routing)

    def ask(self, engine: Engine, tail: int) -> None:
        hashes = (*range(1, BLOCKS + 1), 1000 + tail)
        prompt = Prompt(draw=1, tokens=64 * (BLOCKS + 1), hashes=hashes, block_tokens=64)
        trip = self.router.sent(engine.name, prompt, {}, self.clock.monotonic())
        assert trip is not None
        self.router.kept(trip, self.clock.monotonic())
        self.prewarm.saw(prompt, trip.shared_blocks, CHAT, orjson.dumps(BODY), self.router.index)

    def join(self, *engines: Engine, waiting: int = 0) -> None:
        route = self.route(*engines)
        self.router.apply(route)
        self.prewarm.apply(route, self.router.loads, self.router.index, waiting=waiting)

    def held(self, engine: Engine) -> int:
        return self.router.index.match(range(1, BLOCKS + 1), self.clock.monotonic()).get(engine.name, 0)


async def engine(name: str, script: Any = None) -> Engine:
    one = Engine(name) if script is None else Engine(name, script)
    await one.start()
    return one


async def silent(one: Engine, head: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
    await reader.read(1)


async def test_it_takes_requests_once_it_holds_what_is_hot() -> None:
    old, new = await engine("old"), await engine("new")
    world = World(old)
    world.join(old, new)
    assert world.prewarm.warming == {"new"}
    await until(lambda: not world.prewarm.warming)
    [(head, body)] = new.requests
    assert head.startswith(b"POST /v1/chat/completions ")
    sent = orjson.loads(body)
    assert (sent["max_tokens"], sent["stream"]) == (1, False)
    assert len(sent["messages"][0]["content"]) == round(4000 * BLOCKS / (BLOCKS + 1))
    assert world.held(new) == BLOCKS
    assert world.prewarm.outcomes == {"answered": 1}
    assert not old.requests
    world.pool.close()


async def test_what_was_hashed_otherwise_is_of_no_use() -> None:
    old, new = await engine("old"), await engine("new")
    world = World(old)
    world.router.rehash()
    world.join(old, new)
    assert not world.prewarm.warming
    world.pool.close()


async def test_what_it_computes_makes_nothing_hotter() -> None:
    old, new = await engine("old"), await engine("new")
    world = World(old)
    [before] = world.router.index.hottest(1, world.clock.monotonic())
    world.join(old, new)
    await until(lambda: not world.prewarm.warming)
    [after] = world.router.index.hottest(1, world.clock.monotonic())
    assert after.rate <= before.rate
    world.pool.close()


async def test_an_engine_that_does_not_answer_is_let_go_in_time() -> None:
    old, new = await engine("old"), await engine("new", silent)
    world = World(old, prewarm_s=0.1)
    world.join(old, new)
    await until(lambda: not world.prewarm.warming, within_s=30.0)
    assert world.prewarm.outcomes == {"late": 1}
    assert world.held(new) == 0
    world.pool.close()


async def test_nobody_waits_for_the_only_endpoint() -> None:
    old, new = await engine("old"), await engine("new")
    world = World(old)
    world.join()
    world.join(new, waiting=2)
    assert not world.prewarm.warming
    world.join()
    world.join(new)
    assert world.prewarm.warming == {"new"}, "what was hot is known, and nobody waits"
    await until(lambda: not world.prewarm.warming)
    world.pool.close()


async def test_a_profile_may_do_without() -> None:
    old, new = await engine("old"), await engine("new")
    world = World(old, prewarm_prefixes=0)
    world.join(old, new)
    assert not world.prewarm.warming
    world.pool.close()


async def test_one_that_goes_while_it_computes_is_forgotten() -> None:
    old, new = await engine("old"), await engine("new", silent)
    world = World(old)
    world.join(old, new)
    await until(lambda: new.requests)
    world.join(old)
    await until(lambda: not world.prewarm.warming)
    await until(new.gone.is_set)
    world.pool.close()


async def test_what_one_engine_refuses_does_not_keep_it_from_the_rest() -> None:
    answers = iter((b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n", OK))

    async def script(one: Engine, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(next(answers))

    old, new = await engine("old"), await engine("new", script)
    world = World(old)
    prompt = Prompt(draw=1, tokens=640, hashes=range(50, 60), block_tokens=64)
    for _ in range(2):
        trip = world.router.sent("old", prompt, {}, world.clock.monotonic())
        assert trip is not None
        world.router.kept(trip, world.clock.monotonic())
        world.prewarm.saw(prompt, trip.shared_blocks, CHAT, orjson.dumps(BODY), world.router.index)
    world.join(old, new)
    await until(lambda: not world.prewarm.warming)
    assert world.prewarm.outcomes == {"refused": 1, "answered": 1}
    world.pool.close()
