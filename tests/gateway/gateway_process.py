"""A gateway worker in a process of its own: `python gateway_process.py PORT FOLDER DRAIN_S [PEERS]`, or `started` from a test.

Its table is `table.json` in the folder; its control plane, if there is one, listens at `feed.sock` there.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import uvloop

from penstock.app.registry import open_profile
from penstock.contracts.exchange import RouteTable, ServiceRoute
from penstock.gateway import gossip_inbox
from penstock.gateway.server import GatewaySettings, serve
from penstock.gateway.wire.message import Limits


class Process:
    """A worker that listens at `port`."""

    def __init__(self, port: int, process: asyncio.subprocess.Process) -> None:
        self.port = port
        self._process = process

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    async def end(self) -> int:
        return await asyncio.wait_for(self._process.wait(), 30)

    @property
    def memory_bytes(self) -> int:
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        raise AssertionError("it runs")


@contextlib.asynccontextmanager
async def started(
    folder: Path, *services: ServiceRoute, drain_s: float = 0.5, peers: Path | None = None
) -> AsyncIterator[Process]:
    from free_ports import free_port  # not found by the process itself

    (folder / "table.json").write_bytes(msgspec.json.encode(RouteTable(version=1, services=services)))
    port = free_port()
    arguments = (__file__, str(port), str(folder), str(drain_s), *([str(peers)] if peers else []))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
        yield Process(port, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _main(port: int, folder: Path, drain_s: float, peers: Path | None) -> None:
    gossip_inbox.SILENT_S = 60.0  # one that the machine let stand still is not dead
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = GatewaySettings(
        host="127.0.0.1",
        port=port,
        feed_socket=folder / "feed.sock",
        state_file=folder / "table.json",
        pepper=bytes(32),
        drain_s=drain_s,
        peers=peers,
        limits=Limits(max_connections=20_000, max_connections_per_peer=20_000),
    )
    await serve(settings, stop, open_profile=open_profile, on_ready=lambda: print("ready", flush=True))


if __name__ == "__main__":
    at = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    uvloop.run(_main(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), at))
