"""Limits as callers of a real gateway meet them, by Unix sockets and by Redis."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from gateway_world import Engine, Gateway, post, service, until
from redis_server import RedisServer

from penstock.contracts.exchange import KeyHash, KeyRoute, RateLimit, RouteTable
from penstock.gateway import server
from penstock.gateway.redis_client import RedisClient
from penstock.kit.clock import SystemClock

TOKEN = b"psk-0123456789ab-" + b"s" * 43
AUTHORIZATION = b"Authorization: Bearer " + TOKEN
USAGE = b'{"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}'


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


async def tell_usage(
    engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(USAGE)
    )
    writer.write(USAGE)


def limit_to(folder: Path, engine: Engine, limit: RateLimit) -> None:
    """Put the key's limit into the table that a gateway starts with."""
    hashed = KeyHash(hash=hmac.digest(bytes(32), TOKEN, "sha256").hex())
    key = KeyRoute(id="0123456789ab", namespace="ns", name="ci", hashes=(hashed,), limits=(limit,))
    table = RouteTable(version=1, services=(service(engine),), keys=(key,))
    (folder / "table.json").write_bytes(msgspec.json.encode(table))


def patient_redis(monkeypatch: pytest.MonkeyPatch) -> list[RedisClient]:
    """Whoever asks Redis waits for it, though it stands still for a while; the clients that are made from now on."""
    made: list[RedisClient] = []

    def client(url: str, clock: SystemClock) -> RedisClient:
        made.append(RedisClient(url, clock, timeout_s=30.0))
        return made[-1]

    monkeypatch.setattr(server, "RedisClient", client)
    return made


def header(answer: bytes, name: bytes) -> bytes:
    found = re.search(rb"\r\n%s: ([^\r]*)" % name, answer)
    return found.group(1) if found else b""


@pytest.mark.parametrize("by_redis", [False, True])
async def test_a_limited_key_is_told_how_it_stands_and_when_to_come_again(
    tmp_path: Path, redis: RedisServer, by_redis: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = patient_redis(monkeypatch)
    if by_redis:
        redis.start()
    engine = Engine("e", tell_usage)
    await engine.start()
    url = redis.url if by_redis else ""
    gateway = Gateway(tmp_path, redis_url=url, peers=tmp_path / "workers", clock=SystemClock())
    limit_to(tmp_path, engine, RateLimit(requests_per_minute=2, tokens_per_minute=6_000))
    async with gateway:
        await until(lambda: not any(client.is_away for client in clients))
        asked = post(b'{"model":"m","max_tokens":1000}', b"/v1/chat/completions", AUTHORIZATION)
        free = await gateway.raw(post())
        first, second, third = [await gateway.raw(asked) for _ in range(3)]
    assert first.startswith(b"HTTP/1.1 200")
    assert header(first, b"x-ratelimit-limit-requests") == b"2"
    assert header(first, b"x-ratelimit-remaining-requests") == b"1"
    assert 4_900 < int(header(first, b"x-ratelimit-remaining-tokens")) < 5_900
    assert 4_900 < int(header(second, b"x-ratelimit-remaining-tokens")) < 5_900, "30 of 1008 were used"
    assert third.startswith(b"HTTP/1.1 429")
    assert b'"rate_limit_exceeded"' in third
    assert 20 < int(header(third, b"retry-after")) <= 30
    assert header(third, b"x-ratelimit-remaining-requests") == b"0"
    assert len(engine.requests) == 3
    assert free.startswith(b"HTTP/1.1 200")
    assert b"x-ratelimit" not in free


async def test_a_prompt_that_can_never_pass_is_not_asked_for_again(tmp_path: Path) -> None:
    engine = Engine("e", tell_usage)
    await engine.start()
    gateway = Gateway(tmp_path)
    limit_to(tmp_path, engine, RateLimit(tokens_per_minute=100))
    async with gateway:
        kind = b"Content-Type: application/json"
        body = b'{"model":"m","prompt":"' + b"x" * 500 + b'"}'
        refused = await gateway.raw(post(body, b"/v1/completions", AUTHORIZATION, kind))
    assert refused.startswith(b"HTTP/1.1 400")
    assert b'"rate_limit_unreachable"' in refused
    assert header(refused, b"x-should-retry") == b"false"
    assert header(refused, b"retry-after") == b""
    assert not engine.requests
