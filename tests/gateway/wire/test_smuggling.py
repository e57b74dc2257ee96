"""Each known vector of request smuggling, over real sockets: what is answered, and what the engine gets."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import more_vectors as more
import pytest
import smuggling_vectors as table
from gateway_world import Gateway, service
from recorder import Recorder
from smuggling_vectors import PREFIX, REFUSALS, SENTINEL, Vector

GROUPS = {
    "two lengths": table.TWO_LENGTHS,
    "transfer-encoding": table.TRANSFER_ENCODINGS,
    "content-length": table.CONTENT_LENGTHS,
    "line ends": table.LINE_ENDS,
    "fields": more.FIELDS,
    "host": more.HOSTS,
    "target": more.TARGETS,
    "method and version": more.METHODS_AND_VERSIONS,
    "chunks": more.CHUNKS,
    "trailers": more.TRAILERS,
    "connection": more.CONNECTIONS,
}
VECTORS = {f"{group}: {vector.name}": vector for group, vectors in GROUPS.items() for vector in vectors}
LAST = (b"GET", b"/sentinel", b"")
STATUS = re.compile(rb"HTTP/1\.1 ([2-5]\d\d) ")


def test_no_vector_is_listed_twice() -> None:
    assert len(VECTORS) == sum(map(len, GROUPS.values()))


async def exchange(gateway: Gateway, data: bytes, *, idle_s: float) -> tuple[bytes, bool]:
    """What comes back, and whether the connection ended; it is read while it is written."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    received, ended = b"", False

    async def write() -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()

    writing = asyncio.create_task(write())
    try:
        while piece := await asyncio.wait_for(reader.read(65536), idle_s):
            received += piece
        ended = True
    except ConnectionError:
        ended = True
    except TimeoutError:
        pass
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    writer.transport.abort()
    return received, ended


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS.keys())
async def test_a_vector_is_refused_or_means_what_it_says(tmp_path: Path, vector: Vector) -> None:
    recorder = Recorder()
    await recorder.start()
    with_sentinel = vector.sentinel
    async with Gateway(tmp_path, service(recorder)) as gateway:
        data = vector.data + (SENTINEL if with_sentinel else b"")
        answer, ended = await exchange(gateway, data, idle_s=2.0 if with_sentinel else 0.5)
    statuses = [int(found) for found in STATUS.findall(answer)]
    if not statuses and not ended and 408 in vector.status:
        statuses = [408]  # it waits for the rest, until the body's time is over
        ended = True
    refused = bool(statuses) and statuses[-1] in REFUSALS | {404}
    told = f"{vector.why}; answered {statuses}, the engine got {recorder.seen}"

    expected = [] if refused and not vector.refused else list(vector.seen)
    if not refused and with_sentinel:
        expected.append(LAST)
    assert recorder.seen == expected, told
    assert statuses[: len(expected)] == [200] * len(expected), told
    assert len(statuses) == len(expected) + refused, told
    if refused:
        assert statuses[-1] in vector.status, told
        assert ended or statuses[-1] in (404, 405), told
        if answer and statuses[-1] in (400, 408, 413, 414, 431):
            assert answer.lower().count(b"connection: close\r\n") == 1, told
    else:
        assert not vector.refused, told
    assert not recorder.faults, recorder.faults
    got = {name for fields in recorder.heads for name, _ in fields}
    assert not got & set(vector.absent), told
    assert not any(
        target == PREFIX + b"/smuggled" or target == b"/smuggled" for _, target, _ in recorder.seen
    )
