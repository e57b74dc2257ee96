"""The gateway's own process for a soak: serves from a route table, and tells once a second how many tasks it has.

`python soak_gateway.py PORT FOLDER`; the table lies in FOLDER/table.json. Lines on stdout: `ready`, then numbers of tasks.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from penstock.app.registry import open_profile
from penstock.gateway.server import GatewaySettings, serve

TELL_S = 1.0


async def main(port: int, folder: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = GatewaySettings(
        host="127.0.0.1",
        port=port,
        feed_socket=folder / "feed.sock",
        state_file=folder / "table.json",
        drain_s=1.0,
    )
    telling = asyncio.create_task(_tell())
    await serve(settings, stop, open_profile=open_profile, on_ready=lambda: print("ready", flush=True))
    telling.cancel()


async def _tell() -> None:
    while True:
        await asyncio.sleep(TELL_S)
        print(len(asyncio.all_tasks()), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
