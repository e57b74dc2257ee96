"""The process that tokenizes for this worker: started when it is first asked, ended with the worker, killed when it hangs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections import deque
from collections.abc import Sequence

import msgspec

from penstock.contracts.tokenizing import LENGTH_BYTES, TOLD, Ask, Told, framed
from penstock.kit.errors import Unavailable

MAX_WAITING = 64
MAX_WAITING_BYTES = 32 << 20
"""Of questions that are not answered yet; more are not asked."""
MAX_ANSWER_BYTES = 16 << 20
HANG_S = 30.0
"""Longer than the largest tokenizer takes to load; a template that takes as long does not end."""
END_S = 2.0
DIED = Told(broken="died")


class TokenizerProcess:
    """One at a time; the next question after it died starts another."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` serves `contracts/tokenizing.py` on a socket that is its standard input."""
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[asyncio.Future[Told], int]] = deque()
        self._waiting_bytes = 0
        self._starting = asyncio.Lock()

    async def ask(self, ask: Ask, within_s: float) -> Told:
        """Raises Unavailable: `busy`, `cannot_start`, or `late`; then it goes on all the same, and knows the answer next time."""
        size, loop = len(ask.body), asyncio.get_running_loop()
        writer, process = await self._opened()
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise Unavailable("too many prompts wait to be tokenized", code="busy")
        answer: asyncio.Future[Told] = loop.create_future()
        hang = loop.call_later(HANG_S, process.kill)
        answer.add_done_callback(lambda _: hang.cancel())
        self._waiting.append((answer, size))
        self._waiting_bytes += size
        writer.write(framed(ask))
        await asyncio.wait((answer,), timeout=within_s)
        if not answer.done():
            raise Unavailable(f"the prompt was not tokenized within {within_s:.3g} s", code="late")
        return answer.result()

    async def close(self) -> None:
        """It ends, and is waited for."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _opened(self) -> tuple[asyncio.StreamWriter, subprocess.Popen[bytes]]:
        async with self._starting:
            if self._writer is None or self._process is None:
                ours, theirs = socket.socketpair()
                try:
                    with theirs:
                        process = subprocess.Popen(  # noqa: ASYNC220  a few ms, once
                            self._command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL
                        )
                except OSError as error:
                    ours.close()
                    raise Unavailable(f"{self._command[0]}: {error.strerror}", code="cannot_start") from None
                try:
                    reader, writer = await asyncio.open_unix_connection(sock=ours)
                except BaseException:
                    ours.close()
                    process.kill()
                    process.wait()
                    raise
                self._writer, self._process = writer, process
                self._reading = asyncio.create_task(self._read(reader, writer, process))
            return self._writer, self._process

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, process: subprocess.Popen[bytes]
    ) -> None:
        """Answers come in the order of the questions; what comes too late is for nobody."""
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                if length > MAX_ANSWER_BYTES:
                    break
                told = TOLD.decode(await reader.readexactly(length))
                if not self._waiting:
                    break
                self._answer(told)
        except (OSError, EOFError, msgspec.DecodeError):
            pass
        finally:
            self._writer = self._process = None
            while self._waiting:
                self._answer(DIED)
            writer.close()
            with contextlib.suppress(OSError):
                await asyncio.shield(asyncio.to_thread(_end, process))

    def _answer(self, told: Told) -> None:
        answer, size = self._waiting.popleft()
        self._waiting_bytes -= size
        if not answer.done():
            answer.set_result(told)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its stream has ended; it has a moment to notice."""
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
