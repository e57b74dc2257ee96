"""A gateway's gossip in a process of its own: `near FOLDER` among workers, `far OWN_PORT PEER_PORT` between machines. It ends when it is ended."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from gossip_world import KEY, PODS, service

from penstock.app.registry import open_profile
from penstock.contracts.exchange import RouteTable
from penstock.contracts.scheduling import Prompt
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.far_peers import FarPeers, PeerAddress
from penstock.gateway.gossip import Gossip
from penstock.gateway.peers import Peers
from penstock.gateway.router import Router
from penstock.kit.clock import SteadyClock

SECRET = b"of all gateways together"
CHAIN = list(range(1, 301))


async def speak(arguments: list[str]) -> None:
    """Two requests are under way, and a circuit is open."""
    gossip, router, _ = await join(arguments)
    now = SteadyClock().monotonic()
    for _ in range(2):
        prompt = Prompt(draw=0, tokens=300 * 64, hashes=CHAIN, block_tokens=64)
        trip = router.sent("pod-0", prompt, {}, now)
        assert trip is not None
        router.kept(trip, now)
    print("ready", flush=True)
    await gossip.run()


async def join(arguments: list[str]) -> tuple[Gossip, Router, Peers | FarPeers]:
    """A gateway that is heard."""
    clock = SteadyClock()
    endpoints, router = Endpoints(clock), Router(service(PODS), open_profile)
    endpoints.keep(RouteTable(version=1, services=(service(PODS),)))
    place, channel = f"{'.'.join(arguments)[-40:]}.{os.getpid()}", await connect(arguments, clock)
    if isinstance(channel, Peers):
        gossip = Gossip(place, endpoints, clock, near=channel)
    else:
        gossip = Gossip(place, endpoints, clock, far=channel)
    gossip.keep({KEY: router})
    return gossip, router, channel


async def connect(arguments: list[str], clock: SteadyClock) -> Peers | FarPeers:
    if arguments[0] == "near":
        peers = Peers(Path(arguments[1]), str(os.getpid()))
        await peers.open()
        return peers
    own, other = (PeerAddress("127.0.0.1", int(port)) for port in arguments[1:])
    far = FarPeers(own, [other], SECRET, clock)
    far.open()
    await far.resolve()
    return far


if __name__ == "__main__":
    asyncio.run(speak(sys.argv[1:]))
