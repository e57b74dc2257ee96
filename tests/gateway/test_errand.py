"""The gateway's own requests to engines, on real connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway_world import OK, Engine

from penstock.gateway.errand import Answered, Errand
from penstock.gateway.wire.pool import Pool

MESSAGE = b"POST /v1/completions HTTP/1.1\r\nhost: e\r\ncontent-length: 2\r\n\r\n{}"
Writes = Callable[[Engine, bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(data: bytes) -> Writes:
    async def script(engine: Engine, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return script


async def silent(engine: Engine, head: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
    await reader.read(1)


async def hanging_up(engine: Engine, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def started(script: Writes) -> Engine:
    engine = Engine("e", script)
    await engine.start()
    return engine


async def asked(engine: Engine, pool: Pool, timeout_s: float = 30.0) -> Answered:
    answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
    Errand(pool, engine.endpoint, MESSAGE, answer.set_result, timeout_s=timeout_s)
    return await answer


async def test_a_whole_answer_comes_back_and_its_connection_is_kept() -> None:
    engine, pool = await started(answering(OK)), Pool()
    for _ in range(3):
        assert await asked(engine, pool) == Answered("answered", b"{}")
    assert engine.connections == 1
    pool.close()


async def test_an_answer_in_pieces_is_put_together() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    engine, pool = await started(answering(chunked)), Pool()
    assert await asked(engine, pool) == Answered("answered", b"abcde")
    pool.close()


async def test_what_an_engine_refuses_is_told_from_what_it_cannot() -> None:
    pool = Pool()
    for status, outcome in ((b"400 Bad", "refused"), (b"429 Busy", "failed"), (b"503 Gone", "failed")):
        engine = await started(answering(b"HTTP/1.1 %b\r\ncontent-length: 1\r\n\r\nx" % status))
        assert await asked(engine, pool) == Answered(outcome)
    pool.close()


async def test_an_engine_that_does_not_answer_is_not_waited_for() -> None:
    engine, pool = await started(silent), Pool()
    assert await asked(engine, pool, timeout_s=0.5) == Answered("late")
    async with asyncio.timeout(30):
        await engine.gone.wait()
    pool.close()


async def test_a_connection_that_breaks_is_an_outcome() -> None:
    engine, pool = await started(hanging_up), Pool()
    assert await asked(engine, pool) == Answered("broken")
    await engine.stop()
    assert await asked(engine, pool) == Answered("broken")
    pool.close()


async def test_a_connection_that_was_let_go_while_idle_is_made_anew() -> None:
    answers = iter((OK, b"", OK))

    async def script(engine: Engine, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        data = next(answers)
        writer.write(data) if data else writer.close()

    engine, pool = await started(script), Pool()
    assert await asked(engine, pool) == Answered("answered", b"{}")
    assert await asked(engine, pool) == Answered("answered", b"{}")
    assert engine.connections == 2
    pool.close()


async def test_an_answer_without_end_is_cut_off() -> None:
    endless = b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n" + b"x" * 2_000_000
    engine, pool = await started(answering(endless)), Pool()
    assert await asked(engine, pool) == Answered("too_long")
    pool.close()


async def test_nothing_is_told_of_one_that_was_given_up() -> None:
    engine, pool = await started(silent), Pool()
    told: list[Answered] = []
    errand = Errand(pool, engine.endpoint, MESSAGE, told.append, timeout_s=0.05)
    errand.give_up()
    await asyncio.sleep(0.1)
    assert not told
    pool.close()
