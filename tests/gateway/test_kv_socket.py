"""A socket that is waited for takes every message in order, rests while there is none, and can be let go while it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from free_ports import free_port
from penstock.gateway.kv_socket import KvSocket


@pytest.fixture
def context() -> Iterator[Any]:
    with zmq.Context() as found:
        yield found
        found.destroy(linger=0)


@pytest.fixture
def engine(context: Any) -> Any:
    return context.socket(zmq.DEALER)


def address(engine: Any) -> str:
    return f"tcp://127.0.0.1:{engine.bind_to_random_port('tcp://127.0.0.1')}"


async def test_what_comes_at_once_and_what_comes_later_is_taken_in_order(context: Any, engine: Any) -> None:
    heard = KvSocket(context, zmq.DEALER, address(engine), 100)
    try:
        for number in range(20):
            engine.send_multipart([b"", b"%d" % number])
        async with asyncio.timeout(30):
            assert [await heard.received() for _ in range(20)] == [[b"", b"%d" % n] for n in range(20)]
            waiting = asyncio.create_task(heard.received())
            await asyncio.sleep(0.01)
            assert not waiting.done()
            engine.send(b"later")
            assert await waiting == [b"later"]
    finally:
        heard.close()


async def test_what_is_sent_before_the_other_side_is_there_arrives(context: Any, engine: Any) -> None:
    where = f"tcp://127.0.0.1:{free_port()}"
    asks = KvSocket(context, zmq.DEALER, where, 100)
    try:
        asks.send([b"", b"question"])
        engine.bind(where)
        async with asyncio.timeout(30):
            while not engine.poll(0):
                await asyncio.sleep(0.01)
        assert engine.recv_multipart() == [b"", b"question"]
    finally:
        asks.close()


async def test_one_that_is_cancelled_while_it_waits_is_not_listened_to_any_more(
    context: Any, engine: Any
) -> None:
    heard = KvSocket(context, zmq.DEALER, address(engine), 100)
    try:
        waiting = asyncio.create_task(heard.received())
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        engine.send(b"kept")
        async with asyncio.timeout(30):
            assert await heard.received() == [b"kept"]
    finally:
        heard.close()
