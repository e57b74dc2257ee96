"""One gateway worker in front of one engine, without a control plane: `python -m benchmarks.gateway.our_gateway PORT ENGINE_PORT FOLDER`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import msgspec
import uvloop

from penstock.contracts.exchange import Endpoint, RevisionRoute, RouteTable, ServiceRoute
from penstock.gateway.server import GatewaySettings, serve


def table(engine_port: int) -> RouteTable:
    """One service `m` with one endpoint."""
    endpoint = Endpoint(name="m-1-0", address="127.0.0.1", port=engine_port, node="bench")
    service = ServiceRoute(
        namespace="default",
        name="m",
        uid="1",
        engine_model="m",
        phase="Ready",
        revisions=(RevisionRoute(name="m-1", weight_percent=100, endpoints=(endpoint,)),),
    )
    return RouteTable(version=1, services=(service,))


async def main(port: int, engine_port: int, folder: Path) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    state = folder / "route-table.json"
    state.write_bytes(msgspec.json.encode(table(engine_port)))
    settings = GatewaySettings(
        host="127.0.0.1", port=port, feed_socket=folder / "feed.sock", state_file=state, drain_s=0.5
    )
    await serve(settings, stop)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
