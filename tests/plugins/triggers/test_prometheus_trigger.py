"""The prometheus trigger before a real Prometheus, and before servers that lie."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from email.utils import formatdate

import httpx
import pytest

from event_sources import prometheus
from free_ports import free_port
from penstock.contracts.trigger import Opening, Reading
from penstock.kit.errors import DeadlineExceeded, InvalidInput, PlatformError, Unauthorized, Unavailable
from penstock.plugins.triggers.prometheus import open_trigger
from plain_http import PATIENT

UP, REQUESTS = "max_over_time(up[1h])", "last_over_time(prometheus_http_requests_total[1h])"
"""A look that takes it more than a second, which is what one may take, finds it down: what counts is that one was in time."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prometheus(tmp_path_factory.mktemp("prometheus")) as address:
        deadline = time.monotonic() + 40
        while not (asked(address, f"{UP} == 1") and asked(address, f"count({REQUESTS}) > 1")):
            assert time.monotonic() < deadline, "it has not seen itself up and asked"
            time.sleep(0.2)
        yield address


def asked(address: str, query: str) -> list[object]:
    """What it finds without a trigger."""
    found = httpx.get(f"{address}/api/v1/query", params={"query": query}, **PATIENT).json()
    series: list[object] = found["data"]["result"]
    return series


async def read(address: str, query: str, secrets: dict[str, str] | None = None, **metadata: str) -> Reading:
    wanted = {"serverAddress": address, "query": query, "threshold": "4", **metadata}
    trigger = open_trigger(
        Opening(
            type="prometheus",
            namespace="default",
            metadata=wanted,
            now=time.time,
            demand=None,
            secrets=secrets or {},
            timeout_s=30.0,
        )
    )
    try:
        return await trigger.read()
    finally:
        await trigger.close()


@pytest.mark.parametrize(
    ("query", "value"),
    [(UP, 1.0), ("vector(7.25)", 7.25), ("scalar(vector(3))", 3.0), ("42", 42.0), (f"0 * {UP}", 0.0)],
)
async def test_a_query_of_one_number_is_the_metric(server: str, query: str, value: float) -> None:
    assert await read(server, query) == Reading(value=value, active=value > 0)


async def test_the_metric_is_active_only_above_its_threshold(server: str) -> None:
    assert not (await read(server, "vector(5)", activationThreshold="5")).active
    assert (await read(server, "vector(5.1)", activationThreshold="5")).active


async def test_nothing_is_zero_unless_that_is_an_error(server: str) -> None:
    assert await read(server, "absent_metric") == Reading(value=0.0, active=False)
    with pytest.raises(Unavailable, match="gives nothing"):
        await read(server, "absent_metric", ignoreNullValues="false")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (REQUESTS, "series, expected one"),
        ("up[1m]", "matrix"),
        ("sum(", "parse error"),
        ("vector(0) / 0", "no measurement"),
        ("vector(1) / 0", "no measurement"),
        ("vector(-1) / 0", "no measurement"),
        ("vector(-3)", "no measurement"),
    ],
)
async def test_what_is_no_single_measurement_is_an_error(server: str, query: str, said: str) -> None:
    with pytest.raises(PlatformError, match=said):
        await read(server, query)


async def test_a_server_that_is_down_cannot_be_asked() -> None:
    port = free_port()
    with pytest.raises(Unavailable, match="cannot be asked"):
        await read(f"http://127.0.0.1:{port}", "up")


Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def lying(answer: Answer) -> AsyncIterator[str]:
    """A server that answers as it likes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            await answer(head, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with running:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"


def saying(
    body: str, *, status: str = "200 OK", date: float | None = None, heads: list[str] | None = None
) -> Answer:
    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        if heads is not None:
            heads.append(head)
        dated = f"date: {formatdate(date, usegmt=True)}\r\n" if date is not None else ""
        writer.write(f"HTTP/1.1 {status}\r\n{dated}content-length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()

    return answer


GOOD = '{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}'


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        "[]",
        "null",
        '{"status":"success"}',
        '{"status":"success","data":{"resultType":"vector","result":[{"value":[1]}]}}',
        '{"status":"success","data":{"resultType":"scalar","result":[1,"many"]}}',
        '{"status":"success","data":{"resultType":"vector","result":7}}',
        '{"status":"error","error":"overload"}',
    ],
)
async def test_an_answer_that_is_none_is_an_error(body: str) -> None:
    async with lying(saying(body)) as address:
        with pytest.raises(Unavailable):
            await read(address, "up")


@pytest.mark.parametrize("skew_s", [-4000.0, 4000.0])
async def test_a_server_whose_clock_is_wrong_is_not_believed(skew_s: float) -> None:
    async with lying(saying(GOOD, date=time.time() + skew_s)) as address:
        with pytest.raises(Unavailable, match="clock"):
            await read(address, "up")
    async with lying(saying(GOOD, date=time.time() + skew_s / 100)) as address:
        assert (await read(address, "up")).value == 3.0


async def test_more_than_a_megabyte_is_not_read() -> None:
    async with lying(saying(" " * (3 << 20))) as address:
        with pytest.raises(Unavailable, match="more than"):
            await read(address, "up")


async def test_an_answer_that_does_not_come_is_given_up_in_time() -> None:
    async def never(head: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2)

    async with lying(never) as address:
        with pytest.raises((DeadlineExceeded, Unavailable)):
            await read(address, "up", timeout="200")


async def test_a_refusal_is_told() -> None:
    async with lying(saying("", status="401 Unauthorized")) as address:
        with pytest.raises(Unauthorized, match="401"):
            await read(address, "up")


async def test_a_redirect_is_not_followed() -> None:
    async with lying(saying("", status="302 Found")) as address:
        with pytest.raises(Unavailable, match="302"):
            await read(address, "up")


@pytest.mark.parametrize(
    ("modes", "secrets", "sent"),
    [
        ("basic", {"username": "me", "password": "word"}, "authorization: Basic bWU6d29yZA=="),
        ("bearer", {"bearerToken": "abc\n"}, "authorization: Bearer abc\r"),
        ("custom", {"customAuthHeader": "X-Scope", "customAuthValue": "me"}, "x-scope: me"),
    ],
)
async def test_each_way_to_prove_who_asks_is_sent(modes: str, secrets: dict[str, str], sent: str) -> None:
    heads: list[str] = []
    async with lying(saying(GOOD, heads=heads)) as address:
        await read(address, "up", secrets, authModes=modes, customHeaders="X-A=b", namespace="team")
    assert sent.lower() in heads[0].lower()
    assert "x-a: b" in heads[0].lower()
    assert "namespace=team" in heads[0]


@pytest.mark.parametrize(
    ("secrets", "metadata", "said"),
    [
        ({"username": "me", "password": "hunter2"}, {}, "authModes"),
        ({"username": "me"}, {"authModes": "basic"}, "no parameter password"),
        ({}, {"authModes": "magic"}, "expected basic, bearer, custom"),
        ({}, {"customHeaders": "nonsense"}, "NAME=VALUE"),
        ({}, {"serverAddress": "ftp://server"}, "no address"),
        ({"ca": "nonsense"}, {}, "no certificates"),
    ],
)
async def test_what_cannot_work_is_refused(
    secrets: dict[str, str], metadata: dict[str, str], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        await read("http://127.0.0.1:1", "up", secrets, **metadata)
    assert "hunter2" not in str(caught.value)


async def test_a_password_in_the_address_is_sent_as_one_and_not_in_the_address() -> None:
    heads: list[str] = []
    async with lying(saying(GOOD, heads=heads)) as address:
        await read(address.replace("//", "//me:word@") + "/under/", "up")
    assert heads[0].startswith("GET /under/api/v1/query?query=up HTTP/1.1")
    assert "authorization: basic bwu6d29yza==" in heads[0].lower()
