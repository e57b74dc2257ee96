"""Which JSON schemas answers can be forced into: a new one is compiled first in a process of its own.

A compilation may fail, take minutes, need gigabytes or end its process, and what it makes stays in memory for good. In the
pipeline's process each of these would be everybody's. So the pipeline is given only schemas whose compilation was seen to end well.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess

from blake3 import blake3

from penstock.engine.frames import Schema, Unframer, Verdict, encode
from penstock.engine.linked import started
from penstock.engine.metrics import Metrics
from penstock.kit.errors import Exhausted, InvalidInput, PlatformError, Unavailable

LIMIT_S = 2.0
"""Of processor time, for one compilation: as much as the pipeline spends on it when it compiles the schema again."""
WITHIN_S = 30.0
"""Of one compilation, on a machine that has no time for it: what is at fault is the machine, and a stop of seconds is no reason to give up."""
START_S = 60.0
IDLE_S = 60.0
"""After so long without a new schema the process ends, which gives its memory back."""
WAITING = 32
FAULTS = 1024
"""Schemas that are remembered as not to be followed."""
KEPT_BYTES = 1 << 30
"""Of all schemas that the pipeline was given: it forgets none."""
LEAST_BYTES = 1 << 16
"""What any schema is counted as, whatever was measured."""
GROWN_BYTES = 1 << 28
"""A process that has grown by this is followed by another."""


class Schemas:
    """Those that are known, and the process that compiles new ones, one after the other."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._good: set[bytes] = set()
        self._faults: dict[bytes, str] = {}
        self._kept_bytes = 0
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._trial: _Trial | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def check(self, schema: str, tokenizer: str) -> None:
        """Raises InvalidInput if it cannot be followed, Exhausted if there is no room for another, Unavailable.

        `tokenizer` is the folder or GGUF file whose tokenizer the pipeline has.
        """
        key = blake3(schema.encode()).digest(length=16)
        if key not in self._good and key not in self._faults:
            self._check_room()
            self._waiting += 1
            try:
                async with self._turn:
                    if key not in self._good and key not in self._faults:
                        await self._learn(key, schema, tokenizer)
            finally:
                self._waiting -= 1
        if key in self._faults:
            raise InvalidInput(
                f"'response_format': the schema cannot be followed: {self._faults[key]}", code="bad_schema"
            )

    def close(self) -> None:
        """End the process."""
        if self._idle is not None:
            self._idle.cancel()
        if self._trial is not None:
            self._trial.close()
        self._idle = self._trial = None

    def _check_room(self) -> None:
        if self._kept_bytes >= KEPT_BYTES:
            self._metrics.schema("grammars_full")
            raise Exhausted(
                f"{len(self._good)} schemas take the {KEPT_BYTES >> 20} MiB that are kept for them",
                code="grammars_full",
                hint="ask with a schema that was used before; a restart of the engine forgets them all",
            )
        if self._waiting >= WAITING:
            self._metrics.schema("queue_full")
            raise Exhausted(
                f"{WAITING} new schemas wait to be compiled", code="queue_full", retry_after_s=LIMIT_S
            )

    async def _learn(self, key: bytes, schema: str, tokenizer: str) -> None:
        if self._idle is not None:
            self._idle.cancel()
        try:
            fault, grown_bytes = await self._compile(schema, tokenizer)
        except BaseException:  # whoever asked has gone: what comes now would be the next one's answer
            self.close()
            raise
        self._metrics.schema("bad_schema" if fault else "compiled")
        if fault:
            self._faults[key] = fault
            if len(self._faults) > FAULTS:
                del self._faults[next(iter(self._faults))]
        else:
            self._good.add(key)
            self._kept_bytes += max(grown_bytes, LEAST_BYTES)
        if self._trial is not None and self._trial.grown_bytes > GROWN_BYTES:
            self.close()
        elif self._trial is not None:
            self._idle = asyncio.get_running_loop().call_later(IDLE_S, self.close)

    async def _compile(self, schema: str, tokenizer: str) -> tuple[str, int]:
        """Its fault and its bytes. A process that was there may have ended before: only who ends a fresh one is to blame."""
        for is_fresh in (self._trial is None, True):
            if self._trial is None:
                self._trial = await _started(tokenizer)
            before_bytes = self._trial.grown_bytes
            try:
                async with asyncio.timeout(WITHIN_S):
                    fault = await self._trial.fault(schema)
                return fault, self._trial.grown_bytes - before_bytes
            except TimeoutError:
                raise _unusable(f"has not answered for {WITHIN_S:g} s") from None
            except (EOFError, OSError):
                took_too_long = self._trial.close() == -signal.SIGPROF
                self.close()
                if took_too_long:
                    return f"to compile it takes more than {LIMIT_S:g} s of processor time", 0
                if is_fresh:
                    break
        return "it is too large or too deep to be compiled", 0


class _Trial:
    """One process. `grown_bytes` is by how much it has grown since it began."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._unframer = Unframer(Verdict)
        self.grown_bytes = 0

    async def fault(self, schema: str) -> str:
        """Why it cannot be followed; empty if it can. Raises EOFError or OSError if the process ends."""
        self._writer.write(encode(Schema(schema)))
        return (await self.answer()).fault

    async def answer(self) -> Verdict:
        """The next. Raises EOFError or OSError if the process ends."""
        while data := await self._reader.read(65536):
            verdict: Verdict
            for verdict in self._unframer.feed(data):
                self.grown_bytes = verdict.grown_bytes
                return verdict
        raise EOFError

    def close(self) -> int:
        """How it ended, as subprocess.Popen tells it."""
        self._writer.close()
        self._process.kill()
        return self._process.wait()


async def _started(tokenizer: str) -> _Trial:
    process, ours = started("penstock.engine.grammar", f"--limit_s={LIMIT_S}", tokenizer)
    reader, writer = await asyncio.open_connection(sock=ours)
    trial = _Trial(process, reader, writer)
    try:
        async with asyncio.timeout(START_S):
            await trial.answer()
    except (EOFError, OSError):  # TimeoutError is one
        trial.close()
        raise _unusable("does not start") from None
    except BaseException:
        trial.close()
        raise
    return trial


def _unusable(why: str) -> PlatformError:
    return Unavailable(
        f"the process that compiles schemas {why}", code="grammar_unavailable", retry_after_s=LIMIT_S
    )
