"""Simulated engines as processes of their own, which can be killed and started again under the same address and ports."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from free_ports import free_port
from penstock.contracts.exchange import Endpoint

BLOCK = 16
START_S = 30.0


class EngineProcess:
    """`python -m penstock.engine.simulated` with vLLM's API and, where `tells`, KV events and their replay."""

    def __init__(self, name: str, log: Path, *options: str, tells: bool = True) -> None:
        self.name, self._log, self._options = name, log, options
        self.port, self._live, self._replay = free_port(), free_port(), free_port()
        self._tells = tells
        self._process: asyncio.subprocess.Process | None = None

    @property
    def endpoint(self) -> Endpoint:
        events = {"kv_events_port": self._live, "kv_replay_port": self._replay} if self._tells else {}
        metrics = {"metrics_port": self.port, "metrics_path": "/metrics"}
        return Endpoint(name=self.name, address="127.0.0.1", port=self.port, node="n", **events, **metrics)

    async def start(self) -> None:
        """Returns once it answers."""
        command = [sys.executable, "-m", "penstock.engine.simulated", "--model_name=m", "--time-scale=20"]
        command += [f"--http_port={self.port}", "--host=127.0.0.1", f"--block-size={BLOCK}", *self._options]
        if self._tells:
            command.append(f"--kv_events_endpoint=tcp://127.0.0.1:{self._live}")
            command.append(f"--kv_events_replay_endpoint=tcp://127.0.0.1:{self._replay}")
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        async with asyncio.timeout(START_S):
            while not await self._answers():
                assert self._process.returncode is None, self._log.read_text()
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """By SIGKILL; nothing is said to anybody."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        line = b""
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET /health/ready HTTP/1.0\r\n\r\n")
            line = await reader.readline()
        writer.close()
        return b" 200 " in line


@contextlib.asynccontextmanager
async def engine_processes(
    folder: Path, *names: str, options: tuple[str, ...] = (), tells: bool = True
) -> AsyncIterator[list[EngineProcess]]:
    engines = [EngineProcess(name, folder / f"{name}.log", *options, tells=tells) for name in names]
    try:
        await asyncio.gather(*[engine.start() for engine in engines])
        yield engines
    finally:
        for engine in engines:
            await engine.kill()
