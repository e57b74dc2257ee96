"""Keys over real connections: what a gateway remembers of a request's head never outlives the key that came in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from gateway_world import ControlPlane, Engine, Gateway, SetClock, post, service, until

from penstock.contracts.exchange import KeyHash, KeyRoute, RouteTable
from penstock.kit.api_keys import keyed_hash

PEPPER = bytes(32)
TOKEN = b"psk-0123456789ab-" + b"s" * 43
WRONG = TOKEN[:-1] + b"x"
BEARER = b"Authorization: Bearer "


def table(version: int, *engines: Engine, **fields: object) -> RouteTable:
    hashed = KeyHash(hash=keyed_hash(PEPPER, TOKEN).hex())
    given = {"id": "0123456789ab", "namespace": "ns", "name": "app", "hashes": (hashed,), **fields}
    return RouteTable(
        version=version,
        services=(service(*engines, hosts=("m.default",)),),
        keys=(msgspec.convert(given, KeyRoute),),
    )


def keep(folder: Path, wanted: RouteTable) -> None:
    """What a gateway starts with."""
    (folder / "table.json").write_bytes(msgspec.json.encode(wanted))


def status(answer: bytes) -> int:
    return int(answer[9:12])


async def ask(gateway: Gateway, *headers: bytes, path: bytes = b"/v1/chat/completions") -> int:
    return status(await gateway.raw(post(b'{"model":"m"}', path, *headers, b"Connection: close")))


@pytest.fixture
async def engine() -> Engine:
    made = Engine("e")
    await made.start()
    return made


async def test_the_same_head_is_refused_once_its_key_is_revoked(tmp_path: Path, engine: Engine) -> None:
    gateway = Gateway(tmp_path, require_keys=True)
    keep(tmp_path, table(1, engine))
    async with ControlPlane(tmp_path, table(2, engine)) as control, gateway:
        await until(lambda: control.reports and control.reports[-1].table_version == 2)
        assert [await ask(gateway, BEARER + TOKEN) for _ in range(3)] == [200, 200, 200]
        control.send(RouteTable(version=3, services=(service(engine),)))
        async with asyncio.timeout(30):
            while await ask(gateway, BEARER + TOKEN) != 401:
                pass
        assert await ask(gateway, BEARER + TOKEN) == 401
    assert len(engine.requests) < 20


async def test_the_same_head_is_refused_once_its_key_has_expired_without_any_message(
    tmp_path: Path, engine: Engine
) -> None:
    clock = SetClock()
    gateway = Gateway(tmp_path, require_keys=True, clock=clock)
    hashed = KeyHash(hash=keyed_hash(PEPPER, TOKEN).hex(), expires_at=clock.at + 1.0)
    keep(tmp_path, table(1, engine, hashes=(hashed,)))
    async with gateway:
        assert await ask(gateway, BEARER + TOKEN) == 200
        clock.at += 1.0
        assert await ask(gateway, BEARER + TOKEN) == 401


async def test_a_wrong_secret_after_a_right_one_and_the_other_way_round(
    tmp_path: Path, engine: Engine
) -> None:
    gateway = Gateway(tmp_path, require_keys=True)
    keep(tmp_path, table(1, engine))
    async with gateway:
        seen = [await ask(gateway, BEARER + token) for token in (TOKEN, WRONG, TOKEN, WRONG, b"", TOKEN)]
        assert seen == [200, 401, 200, 401, 401, 200]
        pipelined = b"".join(
            post(b'{"model":"m"}', b"/v1/chat/completions", BEARER + token, *more)
            for token, *more in ((TOKEN,), (WRONG, b"Connection: close"))
        )
        answers = await gateway.raw(pipelined)
        assert answers.count(b"HTTP/1.1 200") == answers.count(b"HTTP/1.1 401") == 1
        assert answers.index(b"HTTP/1.1 200") < answers.index(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    "header", [b"Authorization: Bearer ", b"authorization: bearer  ", b"X-API-Key: ", b"Api-Key:"]
)
async def test_an_engine_never_sees_a_key_of_ours(tmp_path: Path, engine: Engine, header: bytes) -> None:
    gateway = Gateway(tmp_path)
    keep(tmp_path, table(1, engine))
    async with gateway:
        assert await ask(gateway, header + TOKEN, b"X-Other: kept") == 200
        for path in (b"/serving/default/m/any", b"/v1/models/m:predict"):
            assert await ask(gateway, header + TOKEN, path=path) == 200
    assert len(engine.requests) == 3
    assert all(TOKEN not in head for head, _ in engine.requests)
    assert b"x-other: kept" in engine.requests[0][0].lower()


async def test_credentials_that_are_not_ours_reach_the_engine_where_no_key_is_asked_for(
    tmp_path: Path, engine: Engine
) -> None:
    gateway = Gateway(tmp_path)
    keep(tmp_path, table(1, engine))
    async with gateway:
        assert await ask(gateway, b"Authorization: Bearer the-engines-own") == 200
        assert await ask(gateway, BEARER + WRONG) == 401
    [(head, _)] = engine.requests
    assert b"Bearer the-engines-own" in head


@pytest.mark.parametrize(
    ("reach", "code"),
    [({"models": ["*/other"]}, b"model_not_allowed"), ({"namespaces": ["ns"]}, b"namespace_not_allowed")],
)
async def test_what_a_key_does_not_reach_is_refused_by_whatever_path_it_is_named(
    tmp_path: Path, engine: Engine, reach: dict[str, list[str]], code: bytes
) -> None:
    gateway = Gateway(tmp_path, require_keys=True)
    keep(tmp_path, table(1, engine, **reach))
    async with gateway:
        for path in (
            b"/v1/chat/completions",
            b"/serving/default/m/x",
            b"/v1/models/m:predict",
            b"/v2/models/m/infer",
        ):
            answer = await gateway.raw(post(b'{"model":"m"}', path, BEARER + TOKEN, b"Connection: close"))
            assert status(answer) == 403, path
            assert code in answer or b"may not use" in answer
        hosted = await gateway.raw(
            b"POST /x HTTP/1.1\r\nHost: m.default.example\r\nContent-Length: 0\r\nConnection: close\r\n"
            + BEARER + TOKEN + b"\r\n\r\n"
        )  # fmt: skip
        assert status(hosted) == 403
        listed = await gateway.raw(
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + BEARER + TOKEN + b"\r\n\r\n"
        )
        assert b'"data":[]' in listed
    assert engine.requests == []
