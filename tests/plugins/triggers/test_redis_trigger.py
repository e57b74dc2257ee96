"""The redis trigger before a real Redis."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from event_sources import certificate, redis
from free_ports import free_port
from penstock.contracts.trigger import Opening, Reading
from penstock.kit.errors import DeadlineExceeded, InvalidInput, Unauthorized, Unavailable
from penstock.plugins.triggers.redis import open_trigger


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis(tmp_path_factory.mktemp("redis"), password="hunter2") as running:
        with Redis(port=running, password="hunter2") as client:
            client.rpush("jobs", *range(12))
            client.sadd("names", "a", "b")
            client.zadd("scores", {"a": 1, "b": 2, "c": 3})
            client.hset("fields", mapping={"a": "1"})
            client.set("text", "no list")
        with Redis(port=running, password="hunter2", db=3) as client:
            client.rpush("jobs", "one")
        yield running


async def read(
    port: int, name: str, secrets: dict[str, str] | None = None, *, timeout_s: float = 30.0, **metadata: str
) -> Reading:
    trigger = open_trigger(
        Opening(
            type="redis",
            namespace="default",
            metadata={"address": f"127.0.0.1:{port}", "listName": name, **metadata},
            now=time.time,
            demand=None,
            secrets={"password": "hunter2"} if secrets is None else secrets,
            timeout_s=timeout_s,
        )
    )
    try:
        first = await trigger.read()
        assert await trigger.read() == first
        return first
    finally:
        await trigger.close()


@pytest.mark.parametrize(
    ("name", "count"), [("jobs", 12.0), ("names", 2.0), ("scores", 3.0), ("fields", 1.0), ("absent", 0.0)]
)
async def test_items_are_counted_whatever_they_are_kept_in(port: int, name: str, count: float) -> None:
    assert await read(port, name) == Reading(value=count, active=count > 0)


async def test_a_list_is_active_only_above_its_threshold(port: int) -> None:
    assert not (await read(port, "jobs", activationListLength="12")).active
    assert (await read(port, "jobs", activationListLength="11")).active


async def test_databases_are_apart(port: int) -> None:
    assert (await read(port, "jobs", databaseIndex="3")).value == 1.0


async def test_a_key_of_another_kind_is_an_error(port: int) -> None:
    with pytest.raises(InvalidInput, match="holds a string"):
        await read(port, "text")


async def test_credentials_that_are_refused_are_told_without_showing_them(port: int) -> None:
    with pytest.raises(Unauthorized) as caught:
        await read(port, "jobs", secrets={"password": "swordfish"})
    assert "swordfish" not in str(caught.value)
    with pytest.raises(Unauthorized):
        await read(port, "jobs", secrets={})


async def test_a_server_that_is_down_cannot_be_asked() -> None:
    port = free_port()
    with pytest.raises(Unavailable, match="cannot be asked"):
        await read(port, "jobs")


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises((DeadlineExceeded, Unavailable)):
            await read(silent.getsockname()[1], "jobs", timeout_s=1.0)
        assert time.monotonic() - started < 20


@pytest.mark.parametrize("address", ["", "nowhere", "host:", ":6379", "host:99999", "host:x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="address"):
        open_trigger(
            Opening(
                type="redis",
                namespace="default",
                metadata={"address": address, "listName": "jobs"},
                now=time.time,
                demand=None,
            )
        )


async def test_tls_is_spoken_and_the_server_s_certificate_verified(tmp_path: Path) -> None:
    own = certificate(tmp_path)
    with redis(tmp_path, own=own) as port:
        assert (await read(port, "jobs", {"ca": own.pem}, enableTLS="true")).value == 0.0
        assert (await read(port, "jobs", {}, enableTLS="true", unsafeSsl="true")).value == 0.0
        with pytest.raises(Unavailable):
            await read(port, "jobs", {}, enableTLS="true")
        with pytest.raises(Unavailable):
            await read(port, "jobs", {})
