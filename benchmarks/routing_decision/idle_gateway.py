"""One gateway worker as `penstock up` starts it, with a service whose engines do nothing.

`python -m benchmarks.routing_decision.idle_gateway PORT COUNT FOLDER`
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path

import msgspec
import uvloop
from benchmarks.routing_decision.idle_engines import (
    BLOCK_TOKENS,
    EVENTS_PORT,
    HTTP_PORT,
    REPLAY_PORT,
    address,
)

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RouteTable, RoutingRoute, ServiceRoute
from penstock.contracts.tokenizing import BYTES_TOKENIZER
from penstock.gateway.server import GatewaySettings, serve


def table(count: int) -> RouteTable:
    """One service with as many endpoints, all of which say how they are and what they hold."""
    endpoints = tuple(
        Endpoint(
            name=f"m-1-{number}",
            address=address(number),
            port=HTTP_PORT,
            kv_events_port=EVENTS_PORT,
            kv_replay_port=REPLAY_PORT,
            metrics_port=HTTP_PORT,
            metrics_path="/metrics",
        )
        for number in range(count)
    )
    service = ServiceRoute(
        namespace="default",
        name="m",
        uid="1",
        engine_model="m",
        phase="Ready",
        metrics_dialect="vllm",
        tokenizer=BYTES_TOKENIZER,
        routing=RoutingRoute(block_tokens=BLOCK_TOKENS),
        revisions=(RevisionRoute(name="m-1", weight_percent=100, endpoints=endpoints),),
    )
    return RouteTable(version=1, services=(service,))


async def main(port: int, count: int, folder: Path) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    state = folder / "route-table.json"
    state.write_bytes(msgspec.json.encode(table(count)))
    settings = GatewaySettings(
        host="127.0.0.1",
        port=port,
        feed_socket=folder / "feed.sock",
        state_file=state,
        models=folder,
        peers=folder / "workers",
        tokenizer=(sys.executable, "-m", "penstock.engine.tokenizing"),
        drain_s=0.5,
    )
    gc.freeze()
    await serve(settings, stop, open_profile=open_profile)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
