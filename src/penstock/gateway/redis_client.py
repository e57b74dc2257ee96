"""Scripts on a Redis, many in one round trip, without any caller ever waiting for long.

Commands that come while a round trip is under way go out together with the next one, over one connection, in their order. When Redis
does not answer in time it is away: everything that waits is told so at once, and until it answers a ping nothing waits.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from penstock.kit.clock import Clock
from penstock.kit.errors import InvalidInput

if TYPE_CHECKING:
    from redis.asyncio import Redis

TIMEOUT_S = 0.05
"""For one round trip."""
CONNECT_S = 2.0
AWAY_S = 1.0
"""Between two looks whether it is back."""
MAX_BATCH = 64
"""Commands in one round trip: few enough that its time is the network's."""
MAX_WAITING = 8192
"""Commands that wait; a further one is treated as if Redis were away."""
Answer = list[Any]
log = logging.getLogger(__name__)


class Command(NamedTuple):
    """One run of a Lua script, which answers with a list."""

    script: str
    keys: tuple[str, ...]
    arguments: tuple[str | int, ...]


class RedisClient:
    """`is_away` until `run` has reached it; `lost` counts commands of `tell` that it did not get. Neither logs nor errors tell more of the URL than host, port or socket."""

    def __init__(self, url: str, clock: Clock, timeout_s: float = TIMEOUT_S) -> None:
        """`url`: redis://, rediss:// (TLS) or unix://; `timeout_s` is for one round trip. Raises InvalidInput, without the URL, for any other."""
        try:
            self._redis = _open(url)
            parts = urlsplit(url)
            self._where = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path
        except (ValueError, TypeError):
            raise InvalidInput(
                "the URL of Redis cannot be read",
                code="invalid_redis_url",
                hint="write redis://USER:PASSWORD@HOST:PORT/DB, rediss://… for TLS, or unix:///PATH",
            ) from None
        self._clock, self._timeout_s = clock, timeout_s
        self._away, self._unknown_script = _failures()
        self._waiting: deque[tuple[Command, asyncio.Future[Answer | None] | None]] = deque()
        self._in_flight: list[tuple[Command, asyncio.Future[Answer | None] | None]] = []
        self._wanted = asyncio.Event()
        self._complained = False
        self.is_away = True
        self.lost = 0

    def ask(self, command: Command) -> asyncio.Future[Answer | None]:
        """What the script answers; None if Redis is away, or does not answer in time."""
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        if not self._put(command, future):
            future.set_result(None)
        return future

    def tell(self, command: Command) -> None:
        """Run it soon, in order with all others."""
        if not self._put(command, None):
            self.lost += 1

    async def run(self) -> None:
        """Connect, work, and connect again, until cancelled."""
        try:
            while True:
                try:
                    async with asyncio.timeout(CONNECT_S):
                        await self._redis.ping()
                    self.is_away = False
                    await self._work()
                except self._away as error:
                    self._complain(error)
                await self._leave()
                await self._clock.sleep(AWAY_S)
        finally:
            await self._leave()

    def _put(self, command: Command, future: asyncio.Future[Answer | None] | None) -> bool:
        if self.is_away or len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append((command, future))
        self._wanted.set()
        return True

    async def _work(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                self._in_flight = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
                async with asyncio.timeout(self._timeout_s):
                    answers = await self._send([command for command, _ in self._in_flight])
                for (_, future), answer in zip(self._in_flight, answers, strict=True):
                    if future is not None and not future.done():
                        future.set_result(answer)
                self._in_flight = []
                if self._complained:
                    self._complained = False
                    log.info("Redis at %s answers again", self._where)

    async def _send(self, commands: list[Command]) -> list[Answer]:
        answers = await self._execute(commands)
        missing = [i for i, answer in enumerate(answers) if isinstance(answer, self._unknown_script)]
        if missing:
            for script in {commands[i].script for i in missing}:
                await self._redis.script_load(script)
            again = await self._execute([commands[i] for i in missing])
            for i, answer in zip(missing, again, strict=True):
                answers[i] = answer
        for answer in answers:
            if isinstance(answer, self._away):
                raise answer
        return answers

    async def _execute(self, commands: list[Command]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.evalsha(_sha(command.script), len(command.keys), *command.keys, *command.arguments)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
            return answers

    async def _leave(self) -> None:
        self.is_away = True
        for _, future in (*self._in_flight, *self._waiting):
            if future is None:
                self.lost += 1
            elif not future.done():
                future.set_result(None)
        self._in_flight = []
        self._waiting.clear()
        await self._redis.aclose()

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning(
                "Redis at %s is away (%s): this gateway keeps to rate limits by itself until it answers",
                self._where,
                type(error).__name__,
            )


def _open(url: str) -> Redis:
    """The library is loaded here, because it takes 30 MB and half a second that a gateway without Redis can do without."""
    from redis.asyncio import Redis  # noqa: PLC0415
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    return Redis.from_url(
        url,
        max_connections=2,
        socket_timeout=None,  # `_work` has its own; with one here a cancellation can get lost (CPython's gh-86296)
        socket_connect_timeout=CONNECT_S,
        retry=Retry(NoBackoff(), 0),
    )


def _failures() -> tuple[tuple[type[Exception], ...], type[Exception]]:
    """What counts as being away, and what says that a script was not loaded yet."""
    from redis.exceptions import NoScriptError, RedisError  # noqa: PLC0415

    return (RedisError, OSError, TimeoutError), NoScriptError


@cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
