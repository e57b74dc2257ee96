"""A question to a server is bounded in time and in size, and what went wrong is told without its address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from penstock.kit.ask import MAX_BODY_BYTES, ask_json
from penstock.kit.errors import DeadlineExceeded, PlatformError, Unauthorized, Unavailable

pytestmark = pytest.mark.looptime
URL = "http://user:secret@server/metrics"


class Drip(httpx.AsyncByteStream):
    """One byte a second: each arrives in time, all of them do not."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(1.0)
            yield b" "


async def asked(answer: httpx.Response | Exception) -> Any:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle), timeout=5.0) as client:
        return await ask_json(client, URL, what="the server", now=0.0, timeout_s=5.0)


async def test_a_document_comes_back() -> None:
    assert await asked(httpx.Response(200, json={"value": 1})) == {"value": 1}


async def test_a_server_that_trickles_is_given_up_in_time() -> None:
    began = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded, match="the server did not answer within 5 s"):
        await asked(httpx.Response(200, stream=Drip()))
    assert asyncio.get_running_loop().time() - began == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (httpx.Response(401, json={"error": "who?"}), Unauthorized, "answered 401 Unauthorized: who?"),
        (httpx.Response(500), Unavailable, "answered 500"),
        (httpx.Response(200, text="<html>"), Unavailable, "not JSON"),
        (httpx.Response(200, content=b" " * (MAX_BODY_BYTES + 1)), Unavailable, "more than"),
        (
            httpx.Response(200, json={}, headers={"date": "Fri, 02 Jan 1970 00:00:00 GMT"}),
            Unavailable,
            "clock",
        ),
        (httpx.ReadTimeout("slow"), DeadlineExceeded, "did not answer within 5 s"),
        (httpx.ConnectError("refused"), Unavailable, "cannot be asked"),
    ],
)
async def test_an_error_says_what_the_server_did_and_no_secret(
    answer: httpx.Response | Exception, error: type[PlatformError], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        await asked(answer)
    assert "secret" not in str(raised.value)
