"""Mixed callers, and the ledger in which each question ends in exactly one way."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from soak_client import Broken, Client, Reply, message, question
from soak_engine import Book, checksum

BUSY = frozenset((429, 502, 503, 504))
THINK_S = 0.08
KEPT_VIOLATIONS = 20


@dataclass
class Ledger:
    """How questions ended; `violations` are what must never be."""

    book: Book
    ends: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    def answer(self, asked: dict[str, Any], reply: Reply) -> None:
        """A whole answer came."""
        if reply.status in BUSY:
            self._failed(asked, f"status {reply.status}")
        elif reply.status != 200:
            self.violate("unexpected status", f"{reply.status} {reply.body[:200]!r}")
        elif asked["events"]:
            self._stream(asked, reply)
        else:
            told = json.loads(reply.body)
            self._right(asked, told["nonce"], told["sum"], len(told["pad"]) == asked["want"])

    def cut(self, asked: dict[str, Any], why: str) -> None:
        """The connection ended before the answer did: only where the engine broke it off."""
        self._failed(asked, f"cut: {why}")

    def lost(self, asked: dict[str, Any]) -> None:
        """No answer came at all."""
        self.violate("lost", f"{asked['nonce']}: {self.book.faults.get(asked['nonce'])}")

    def left(self) -> None:
        """The caller went away of its own."""
        self.ends["left by the caller"] += 1

    def violate(self, kind: str, detail: str) -> None:
        self.violations[kind] += 1
        if len(self.details) < KEPT_VIOLATIONS:
            self.details.append(f"{kind}: {detail}")

    def close(self) -> None:
        """What only the whole book shows: answers that an engine gave twice, or a caller got twice."""
        for name, counts in (
            ("answered twice", self.answered),
            ("asked twice after an answer", self.book.whole),
        ):
            for nonce, times in counts.items():
                if times > 1:
                    self.violate(name, f"{nonce}: {times} times, {self.book.faults.get(nonce)}")

    def _stream(self, asked: dict[str, Any], reply: Reply) -> None:
        told = [json.loads(text.removeprefix(b"data: ")) for text in reply.body.split(b"\n\n") if text]
        if told and "error" in told[-1]:
            self._failed(asked, "error object in a stream")
            return
        events, end = told[:-1], told[-1]
        nonces = {one.get("nonce") for one in told}
        in_order = [one.get("n") for one in events] == list(range(asked["events"]))
        self._right(asked, nonces.pop() if len(nonces) == 1 else "mixed", end.get("sum"), in_order)

    def _right(self, asked: dict[str, Any], nonce: str, total: object, whole: bool) -> None:
        self.answered[nonce] += 1
        if nonce != asked["nonce"]:
            self.violate("another's answer", f"asked {asked['nonce']}, got {nonce}")
        elif total != checksum(asked) or not whole:
            self.violate("a changed body", nonce)
        self.ends["right"] += 1

    def _failed(self, asked: dict[str, Any], how: str) -> None:
        """Only what an engine did wrong, or an engine that was away, excuses it."""
        self.ends[how] += 1
        nonce = asked["nonce"]
        if self.book.whole[nonce] and not self.book.faults.get(nonce):
            self.violate("lost although answered", f"{nonce}: {how}")


class Callers:
    """Tasks that ask until told to stop."""

    def __init__(self, port: int, ledger: Ledger, seed: int) -> None:
        self._port = port
        self._ledger = ledger
        self._chance = random.Random(seed)
        self.stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, each: int) -> None:
        """So many of each kind."""
        kinds = (
            self.keep_alive,
            self.big,
            self.streams,
            self.slow,
            self.leaves,
            self.pipelines,
            self.new,
            self.noise,
        )
        self._tasks = [asyncio.create_task(self._repeat(kind)) for kind in kinds for _ in range(each)]

    async def stop(self) -> None:
        """Each may finish what it has begun."""
        self.stopping = True
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                self._ledger.violate("a caller failed", repr(result))

    async def _repeat(self, kind: Callable[[], Awaitable[None]]) -> None:
        while not self.stopping:
            await kind()
            await asyncio.sleep(self._chance.random() * THINK_S)

    async def keep_alive(self) -> None:
        """Up to 50 small questions on one connection."""
        client = await Client.open(self._port)
        for _ in range(50):
            if self.stopping or not await self._ask(client, question(self._chance)):
                break
            await asyncio.sleep(self._chance.random() * THINK_S)
        client.leave()

    async def big(self) -> None:
        """200 kB there and back."""
        client = await Client.open(self._port)
        await self._ask(client, question(self._chance, send=200_000, want=200_000))
        client.leave()

    async def streams(self) -> None:
        """Five to fifty events."""
        client = await Client.open(self._port)
        await self._ask(client, question(self._chance, events=self._chance.randrange(5, 50), want=5000))
        client.leave()

    async def slow(self) -> None:
        """Reads an answer of up to 600 kB a little at a time."""
        client = await Client.open(self._port, receive_bytes=8192)
        asked = question(
            self._chance, want=self._chance.randrange(100_000, 600_000), events=self._chance.choice((0, 20))
        )
        await self._ask(client, asked, pause_s=0.002)
        client.leave()

    async def leaves(self) -> None:
        """Goes away somewhere between half a question and half an answer."""
        client = await Client.open(self._port)
        data = message(question(self._chance, want=20_000, events=20), self._chance)
        await client.send(data[: self._chance.choice((10, len(data) // 2, len(data), len(data)))])
        await asyncio.sleep(self._chance.random() * 0.02)
        client.leave()
        self._ledger.left()

    async def pipelines(self) -> None:
        """Two to six questions in one write; the answers come in order."""
        client = await Client.open(self._port)
        asked = [question(self._chance) for _ in range(self._chance.randrange(2, 7))]
        await client.send(b"".join(message(one, self._chance) for one in asked))
        for place, one in enumerate(asked):
            if not await self._answer(client, one):
                for _ in asked[place + 1 :]:
                    self._ledger.ends["behind one that was cut"] += 1
                break
        client.leave()

    async def new(self) -> None:
        """One question per connection, which the gateway is to close."""
        client = await Client.open(self._port)
        asked = question(self._chance)
        await client.send(message(asked, self._chance, close=True))
        if await self._answer(client, asked) and await client.reader.read(1):
            self._ledger.violate("more after the last answer", asked["nonce"])
        client.leave()

    async def noise(self) -> None:
        """What is no HTTP is refused and the connection closed."""
        client = await Client.open(self._port)
        await client.send(
            self._chance.choice(
                (b"\x00\x01\x02", b"GET /\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            )
        )
        try:
            reply = await client.reply()
            self._ledger.ends["noise refused"] += 1
            if not 400 <= reply.status < 600:
                self._ledger.violate("noise was answered", str(reply.status))
        except (Broken, TimeoutError) as error:
            self._ledger.violate("noise was not refused", repr(error))
        client.leave()
        await asyncio.sleep(0.2)

    async def _ask(self, client: Client, asked: dict[str, Any], *, pause_s: float = 0.0) -> bool:
        await client.send(message(asked, self._chance))
        return await self._answer(client, asked, pause_s=pause_s)

    async def _answer(self, client: Client, asked: dict[str, Any], *, pause_s: float = 0.0) -> bool:
        """Whether the connection can be used again."""
        try:
            reply = await client.reply(pause_s=pause_s)
        except Broken as error:
            self._ledger.cut(asked, str(error))
            return False
        except TimeoutError:
            self._ledger.lost(asked)
            return False
        self._ledger.answer(asked, reply)
        return reply.headers.get(b"connection", b"") != b"close"
