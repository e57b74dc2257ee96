"""One gateway worker in front of one engine, without a control plane.

`python -m benchmarks.gateway.our_gateway PORT ENGINE_PORT FOLDER [bare]`: callers need a key, and the key and its tenant have limits
that no load meets; `bare` asks for none and limits nothing.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import msgspec
import uvloop
from benchmarks.gateway.keys import KEY

from penstock.app.registry import open_profile
from penstock.contracts.exchange import (
    Endpoint,
    KeyHash,
    KeyRoute,
    RateLimit,
    RevisionRoute,
    RouteTable,
    RoutingRoute,
    ServiceRoute,
    TenantRoute,
)
from penstock.gateway.server import GatewaySettings, serve
from penstock.kit.api_keys import PEPPER_BYTES, id_of, keyed_hash

PEPPER = bytes(PEPPER_BYTES)
FAR_AWAY = (RateLimit(requests_per_minute=1_000_000_000, tokens_per_minute=1_000_000_000_000),)


def table(engine_port: int, is_bare: bool) -> RouteTable:
    """One service `m` with one endpoint; one key of one tenant."""
    endpoint = Endpoint(name="m-1-0", address="127.0.0.1", port=engine_port, node="bench")
    service = ServiceRoute(
        namespace="default",
        name="m",
        uid="1",
        engine_model="m",
        phase="Ready",
        routing=RoutingRoute(),
        revisions=(RevisionRoute(name="m-1", weight_percent=100, endpoints=(endpoint,)),),
    )
    key = KeyRoute(
        id=id_of(KEY.encode()),
        namespace="default",
        name="bench",
        tenant="bench",
        hashes=(KeyHash(hash=keyed_hash(PEPPER, KEY.encode()).hex()),),
        limits=FAR_AWAY,
    )
    tenant = TenantRoute(name="bench", limits=FAR_AWAY)
    if is_bare:
        return RouteTable(version=1, services=(service,))
    return RouteTable(version=1, services=(service,), keys=(key,), tenants=(tenant,))


async def main(port: int, engine_port: int, folder: Path, is_bare: bool) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    state = folder / "route-table.json"
    state.write_bytes(msgspec.json.encode(table(engine_port, is_bare)))
    settings = GatewaySettings(
        host="127.0.0.1",
        port=port,
        feed_socket=folder / "feed.sock",
        state_file=state,
        pepper=PEPPER,
        require_keys=not is_bare,
        drain_s=0.5,
    )
    await serve(settings, stop, open_profile=open_profile)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:] == ["bare"]))
