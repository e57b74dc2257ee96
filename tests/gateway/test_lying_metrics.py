"""Engines whose metrics vanish, lie or never end, on real sockets: nothing wrong is believed, and nobody waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable

import pytest

from penstock.contracts.exchange import Endpoint
from penstock.contracts.scheduling import UNKNOWN, Load
from penstock.gateway import polls
from penstock.gateway.polls import Polled, Polls

Page = Callable[[asyncio.StreamWriter], object]
HEAD = b"HTTP/1.0 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\n\r\n"
TRUE = b'vllm:num_requests_waiting{engine="0"} 2\nvllm:num_requests_running{engine="0"} 3\nvllm:kv_cache_usage_perc 0.5\n'
HELD_S = 0.2
"""Most processor time that reading a page may take at once; the worst page takes some 30 ms."""
TRIES = 4
"""While all held the loop for too long: a machine may take the processor away while this thread seems to have it."""


def text(*lines: str) -> Page:
    return lambda writer: writer.write(HEAD + "\n".join(lines).encode() + b"\n")


def raw(data: bytes) -> Page:
    return lambda writer: writer.write(data)


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + TRUE)
    while True:
        writer.write(b"# and so on\n" * 10)
        await writer.drain()
        await asyncio.sleep(0.01)


async def huge(writer: asyncio.StreamWriter) -> None:
    """100 MB, as fast as they are taken."""
    writer.write(HEAD + TRUE)
    for _ in range(1600):
        writer.write(b"vllm:num_requests_waiting 7\n" * 2340)
        await writer.drain()


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


def numbers(value: str) -> Page:
    names = ("num_requests_waiting", "num_requests_running", "kv_cache_usage_perc", "lora_requests_info")
    info = f'vllm:cache_config_info{{block_size="{value}",num_gpu_blocks="{value}"}} {value}'
    return text(*[f"vllm:{name} {value}" for name in names], info)


def chunked(size: bytes, data: bytes, times: int) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + (size + b"\r\n" + data + b"\r\n") * times
    )


NOTHING = (UNKNOWN, UNKNOWN, UNKNOWN)
LIES: dict[str, tuple[Page, tuple[float, float, float]]] = {
    "nan": (numbers("NaN"), NOTHING),
    "negative": (numbers("-3"), NOTHING),
    "1e308": (numbers("1e308"), NOTHING),
    "infinite": (numbers("+Inf"), NOTHING),
    "2e308 in two series": (text(*["vllm:num_requests_waiting 1e308"] * 2), NOTHING),
    "many digits": (numbers("9" * 5000), NOTHING),
    "endless labels": (text("vllm:num_requests_waiting{" + 'a="b",' * 100_000 + "} 5"), NOTHING),
    "labels that open": (text("vllm:num_requests_waiting{" + 'a="' * 100_000), NOTHING),
    "backslashes": (text('vllm:num_requests_waiting{a="' + "\\" * 100_000), NOTHING),
    "25,000 series": (text(*[f'vllm:num_requests_waiting{{a="{i}"}} 99' for i in range(25_000)]), NOTHING),
    "adapters": (text('vllm:lora_requests_info{running_lora_adapters="' + "a," * 200_000 + '"} 5'), NOTHING),
    "html": (raw(b"HTTP/1.0 200 OK\r\ncontent-type: text/html\r\n\r\n<html><body>404</body></html>"), NOTHING),
    "gzip": (raw(HEAD.replace(b"text/plain", b"application/gzip") + bytes(range(256)) * 4000), NOTHING),
    "500": (raw(b"HTTP/1.0 500 No\r\n\r\n" + TRUE), NOTHING),
    "redirect": (raw(b"HTTP/1.0 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n"), NOTHING),
    "no http": (raw(TRUE), NOTHING),
    "headers without end": (raw(b"HTTP/1.0 200 OK\r\n" + b"a: b\r\n" * 100_000), NOTHING),
    "closed at once": (lambda writer: None, NOTHING),
    "silent": (silent, NOTHING),
    "endless": (endless, NOTHING),
    "100 MB": (huge, NOTHING),
    "tiny chunks": (raw(chunked(b"1", b"a", 600_000)), NOTHING),
    "a chunk that says too much": (raw(chunked(b"f" * 9, b"a", 1)), NOTHING),
    "a chunk that says less than nothing": (raw(chunked(b"-5", b"a", 9)), NOTHING),
}  # fmt: skip


class Engine:
    """Tells the truth until it is given a page."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.page: Page = raw(HEAD + TRUE)
        self.asked = 0

    async def start(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        ends = Endpoint(name=self.name, address="127.0.0.1", port=port, metrics_port=port, metrics_path="/m")
        self.load = Load(endpoint=ends)

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            told = self.page(writer)
            if asyncio.iscoroutine(told):
                await told
            await writer.drain()

    @property
    def told(self) -> tuple[float, float, float]:
        return self.load.waiting, self.load.running, self.load.kv_use


@contextlib.asynccontextmanager
async def watched(*engines: Engine) -> AsyncIterator[list[float]]:
    """Yields how long the loop was held, in seconds of this thread's work, one turn after the other: a busy machine adds nothing."""
    running, held = Polls(), [0.0]

    async def tick() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            held.append(time.thread_time() - before)

    for engine in engines:
        await engine.start()
    ticking = asyncio.create_task(tick())
    running.watch([Polled(engine.load, "vllm") for engine in engines])
    try:
        yield held
    finally:
        ticking.cancel()
        running.close()
        for engine in engines:
            await engine.stop()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_as_if_nothing_had_been_said_and_nobody_waits_for_it(
    lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "EVERY_S", 0.05)
    monkeypatch.setattr(polls, "SELDOM_S", 0.05)
    monkeypatch.setattr(polls, "TIMEOUT_S", 0.3)
    page, believed = LIES[lie]
    liar, honest = Engine("liar"), Engine("honest")
    async with watched(liar, honest) as held:
        longest_s = []
        while not longest_s or (min(longest_s) >= HELD_S and len(longest_s) < TRIES):
            liar.page = raw(HEAD + TRUE)
            await until(lambda: liar.told == honest.told == (2, 3, 0.5))
            liar.page, held[:], asked = page, [0.0], honest.asked
            await until(lambda: liar.told == believed)
            await until(lambda before=asked: honest.asked > before and honest.told == (2, 3, 0.5))
            longest_s.append(max(held))
        assert min(longest_s) < HELD_S
        assert liar.load.kv_tokens == 0
        assert not liar.load.adapters
        assert math.isfinite(liar.load.capacity)
        liar.page = raw(HEAD + TRUE)
        await until(lambda: liar.told == (2, 3, 0.5))
