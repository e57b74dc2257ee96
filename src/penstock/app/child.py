"""One process of the platform, kept alive: restarted at once when it dies, with back-off when it dies again and again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from penstock.app.link import MAX_LINE_BYTES, VARIABLE, Notice
from penstock.kit.errors import Unavailable

STEADY_S = 10.0
"""A child that lived this long is restarted at once when it dies."""
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 10.0


def restart_delay_s(quick_deaths: int) -> float:
    """Seconds to wait after `quick_deaths` deaths in a row, each sooner than STEADY_S: 0, 0.25, 0.5, … 10."""
    return 0.0 if quick_deaths <= 1 else min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** (quick_deaths - 2))


class Child:
    """`python -m MODULE` as a process in a session of its own, so that Ctrl-C reaches the supervisor alone.

    `name` is for people; `said(name, message)` is called for what the child tells the person at the terminal. `keep` are descriptors that
    the child holds open as long as it lives, under the same numbers: the data folder's lock, a listening socket.
    """

    def __init__(
        self,
        name: str,
        *,
        module: str,
        environment: dict[str, str],
        log: Path,
        keep: Sequence[int],
        said: Callable[[str, str], None],
    ) -> None:
        self.name = name
        self._module = module
        self._environment = environment
        self._log = log
        self._keep = tuple(keep)
        self._said = said
        self._process: asyncio.subprocess.Process | None = None
        self._failed: Notice | None = None
        self._ready = asyncio.Event()
        self._line: asyncio.StreamWriter | None = (
            None  # closed, it tells the child that the supervisor is gone
        )

    @property
    def pid(self) -> int | None:
        """The running process."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    @property
    def is_ready(self) -> bool:
        """Whether it has said that it serves."""
        return self._ready.is_set()

    async def run(self) -> None:
        """Keep it running until cancelled. Raises Unavailable when it cannot run at all."""
        quick_deaths = 0
        while True:
            started_at = time.monotonic()
            code = await self._live()
            if self._failed:
                raise Unavailable(self._failed.message, hint=self._failed.hint)
            if not self._ready.is_set():
                raise Unavailable(
                    f"the {self.name} ended with {describe_exit(code)} before it was ready: {self._last_words()}",
                    hint=f"its log is {self._log}",
                )
            quick_deaths = 0 if time.monotonic() - started_at > STEADY_S else quick_deaths + 1
            delay_s = restart_delay_s(quick_deaths)
            when = f"in {delay_s:g} s" if delay_s else "now"
            self._said(self.name, f"ended with {describe_exit(code)}; restarting {when} (log: {self._log})")
            await asyncio.sleep(delay_s)

    async def wait_ready(self) -> None:
        """Until it has said for the first time that it serves."""
        await self._ready.wait()

    async def stop(self, limit_s: float) -> bool:
        """Ask it to end, and kill it after `limit_s`; whether it ended by itself with exit code 0.

        Cancel `run` first. A process that had died before counts as not ended orderly.
        """
        process = self._process
        if process is None or process.returncode is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(limit_s):
                return await process.wait() == 0
        except TimeoutError:
            await self.kill()
            return False
        finally:
            await self._hang_up()

    async def kill(self) -> None:
        """End it now."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await self._hang_up()

    async def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            with contextlib.suppress(ConnectionError):
                await self._line.wait_closed()

    async def _live(self) -> int:
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    self._module,
                    env={**self._environment, VARIABLE: str(theirs.fileno())},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs.fileno(), *self._keep),
                    start_new_session=True,
                )
            reader, self._line = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        except BaseException:
            ours.close()
            raise
        with contextlib.suppress(ConnectionResetError):
            async for line in reader:
                self._take(line)
        code = await self._process.wait()
        self._line.close()
        return code

    def _take(self, line: bytes) -> None:
        notice = msgspec.json.decode(line, type=Notice)
        if notice.type == "ready":
            self._ready.set()
        elif notice.type == "failed":
            self._failed = notice
        else:
            self._said(self.name, notice.message)

    def _last_words(self) -> str:
        """The last line of its log, which is where a crash says what it was."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - 4096))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return "no log"
        return lines[-1] if lines else "it said nothing"


def describe_exit(code: int) -> str:
    """An exit code as a person reads it."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"
