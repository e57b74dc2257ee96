"""Limits that several gateways keep together, on a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from redis_server import RedisServer
from test_gateway_quota import call, key, limit, remaining, served, table

from penstock.contracts.exchange import KeyRoute, TenantRoute
from penstock.gateway.quota_redis import PREFIX, SCRIPT, RedisQuota
from penstock.gateway.redis_client import MAX_WAITING, Command, RedisClient
from penstock.kit.clock import SystemClock
from penstock.kit.errors import Exhausted, InvalidInput

KEY = key(limit(60, 60_000))
SLOW = key(limit(3, 3_000), id="slow")
"""Of which Redis gives back one request in 20 s: what lies between two looks at it, however long, gives none."""


class Soon(SystemClock):
    """Looks for Redis more often."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.02))


class Gateway:
    def __init__(
        self, url: str, *keys: KeyRoute, tenants: tuple[TenantRoute, ...] = (), **more: float
    ) -> None:
        self.redis = RedisClient(url, Soon(), **({"timeout_s": 30.0} | more))
        self.quota = RedisQuota(Soon(), self.redis)
        self.quota.apply(table(*keys, tenants=tenants))
        self.task = asyncio.create_task(self.redis.run())

    async def until(self, *, away: bool) -> None:
        for _ in range(3000):
            if self.redis.is_away == away:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"away is still {not away}")

    async def admits(self, of: KeyRoute = KEY) -> bool:
        try:
            await self.quota.reserve_async(call(of, max_tokens=100))
        except Exhausted:
            return False
        return True

    async def end(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path, password="not-for-logs")
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def gateways(server: RedisServer) -> AsyncIterator[list[Gateway]]:
    tenant = TenantRoute(name="acme", limits=(limit(600),))
    made = [Gateway(server.url, KEY, SLOW, key(id="t", tenant="acme"), tenants=(tenant,)) for _ in range(4)]
    for gateway in made:
        await gateway.until(away=False)
    yield made
    for gateway in made:
        await gateway.end()


async def test_all_gateways_together_admit_exactly_the_limit(gateways: list[Gateway]) -> None:
    of = key(id="t", tenant="acme")
    started = time.monotonic()
    outcomes = await asyncio.gather(*(gateway.admits(of) for gateway in gateways for _ in range(200)))
    elapsed_s = time.monotonic() - started
    assert not any(gateway.quota.fallbacks for gateway in gateways)
    assert 600 <= sum(outcomes) <= 600 + 10 * elapsed_s + 1


async def test_what_one_gateway_took_the_others_see(gateways: list[Gateway]) -> None:
    a, b = gateways[:2]
    asked = call(SLOW, max_tokens=900)
    await a.quota.reserve_async(asked)
    a.quota.settle(served(asked, 100, 900))
    other = call(SLOW, max_tokens=900)
    await b.quota.reserve_async(other)
    left = remaining(b.quota, other)
    assert left["requests"] == "1"
    assert 1_000 <= int(left["tokens"]) < 1_900
    b.quota.settle(served(other, 5, 5))
    await a.quota.reserve_async(last := call(SLOW, max_tokens=900))
    left = remaining(a.quota, last)
    assert left["requests"] == "0"
    assert 990 <= int(left["tokens"]) < 1_900, "the second call cost ten, the third reserves a thousand"


async def test_a_refusal_says_when_it_would_pass(gateways: list[Gateway]) -> None:
    a, b = gateways[:2]
    refused: Exhausted | None = None
    async with asyncio.timeout(30):
        while refused is None:  # after a second there is room for one more
            while await a.admits():
                pass
            try:
                await b.quota.reserve_async(call(KEY))
            except Exhausted as error:
                refused = error
    assert "the key prod/ci-a1 may send 60 requests a minute" in str(refused)
    assert refused.retry_after_s is not None
    assert 0 < refused.retry_after_s <= 1.0
    await asyncio.sleep(refused.retry_after_s)
    assert await b.admits()


async def test_all_buckets_give_or_none(server: RedisServer) -> None:
    of = key(limit(4), limit(3, model="prod/*"))
    gateway = Gateway(server.url, of)
    await gateway.until(away=False)
    assert [await gateway.admits(of) for _ in range(5)] == [True, True, True, False, False]
    assert sorted(int(bucket.requests + 0.001) for bucket in gateway.quota.buckets.values()) == [0, 1]
    await gateway.end()


async def test_a_prompt_beyond_the_bucket_is_refused_for_good(server: RedisServer) -> None:
    of = key(limit(tokens=1000))
    gateway = Gateway(server.url, of)
    await gateway.until(away=False)
    with pytest.raises(InvalidInput, match="this prompt alone"):
        await gateway.quota.reserve_async(call(of, body=b"x" * 5000))
    await gateway.end()


async def test_buckets_in_redis_are_forgotten_when_they_are_full_again(
    gateways: list[Gateway], server: RedisServer
) -> None:
    await gateways[0].admits(SLOW)
    async with Redis.from_url(server.url) as redis:
        [name] = await redis.keys()
        assert name.startswith(PREFIX.encode())
        assert 1000 < await redis.pttl(name) <= 21_000, "a second after it is full"


async def test_a_caller_that_stops_waiting_gets_its_reservation_back(
    gateways: list[Gateway], server: RedisServer
) -> None:
    a, b = gateways[:2]
    waiting = asyncio.create_task(a.admits(SLOW))
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert await a.admits(), "behind the reservation, which has been made by now"
    async with Redis.from_url(server.url) as redis, asyncio.timeout(30):
        while [name for name in await redis.keys("*slow*") if await redis.hget(name, "requests") != b"3"]:
            await asyncio.sleep(0.005)
    assert [await b.admits(SLOW) for _ in range(4)] == [True, True, True, False]


async def test_a_script_that_redis_forgot_is_loaded_again(
    gateways: list[Gateway], server: RedisServer
) -> None:
    assert await gateways[0].admits()
    async with Redis.from_url(server.url) as redis:
        await redis.script_flush()
    assert await gateways[0].admits()
    assert gateways[0].quota.fallbacks == 0


async def test_while_redis_hangs_the_gateway_keeps_to_its_own_buckets_and_says_so_once(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    of = key(limit(10))
    a = Gateway(server.url, of)
    await a.until(away=False)
    assert [await a.admits(of) for _ in range(5)] == [True] * 5
    assert a.quota.fallbacks == 0
    caplog.clear()
    assert server._process is not None
    server.signal(signal.SIGSTOP)
    a.redis._timeout_s = 0.3
    async with asyncio.timeout(30):
        while psutil.Process(server._process.pid).status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(0.005)
        assert await a.admits(of)
    await a.until(away=True)
    admitted = [await a.admits(of) for _ in range(100)]
    assert 4 <= sum(admitted) <= 6, "what was taken before is not forgotten"
    assert a.quota.fallbacks == 101
    assert a.quota.faults["judged_alone"] == a.quota.fallbacks
    a.redis._timeout_s = 30.0
    server.signal(signal.SIGCONT)
    await a.until(away=False)
    await a.admits(of)
    mine = [record.getMessage() for record in caplog.records if record.name.endswith("redis_client")]
    assert len([line for line in mine if "is away (" in line]) == 1
    assert len([line for line in mine if "answers again" in line]) == 1
    assert "not-for-logs" not in caplog.text
    assert str(server.socket) in mine[0]
    await a.end()


async def test_a_redis_that_starts_again_is_used_again(gateways: list[Gateway], server: RedisServer) -> None:
    a = gateways[0]
    server.stop()
    assert await a.admits()
    assert a.quota.fallbacks == 1
    server.start()
    await a.until(away=False)
    assert await a.admits()
    assert a.quota.fallbacks == 1


async def test_an_error_of_redis_counts_as_away(gateways: list[Gateway], server: RedisServer) -> None:
    async with Redis.from_url(server.url) as redis:
        await redis.config_set("maxmemory", 1)
        assert await gateways[0].admits()
        assert gateways[0].quota.fallbacks == 1


async def test_what_redis_did_not_get_is_counted(server: RedisServer) -> None:
    client = RedisClient(server.url, Soon())
    command = Command("return {1}", (), ())
    client.tell(command)
    assert client.lost == 1
    assert await client.ask(command) is None


async def test_the_queue_is_bounded(gateways: list[Gateway]) -> None:
    a = gateways[0]
    for _ in range(MAX_WAITING + 3):
        a.redis.tell(Command(SCRIPT, (), ("debit",)))
    assert a.redis.lost == 3
    assert await a.redis.ask(Command(SCRIPT, (), ("debit",))) is None


@pytest.mark.parametrize("url", ["http://:not-for-logs@host", "redis://host:not-for-logs/0", "not-for-logs"])
def test_a_bad_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        RedisClient(url, SystemClock())
    assert "not-for-logs" not in repr(refused.value) + refused.value.hint
    assert refused.value.__cause__ is None
