"""An engine of several ranks behind one address: what one rank tells of its cache is not taken for what the endpoint holds."""

from __future__ import annotations

from kv_engine import SIZE, HandEngine, free_port, stored, until

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RouteTable, RoutingRoute, ServiceRoute
from penstock.gateway.demand import Demand
from penstock.gateway.routing import Routing
from penstock.gateway.wire.pool import Pool
from penstock.kit.clock import SteadyClock
from penstock.kit.hashing import chain_seed, token_blocks


def table(*ports: int) -> RouteTable:
    ends = tuple(
        Endpoint(name=f"e{port}", address="127.0.0.1", port=port, kv_events_port=port) for port in ports
    )
    return RouteTable(
        version=1,
        services=(
            ServiceRoute(
                namespace="default",
                name="m",
                uid="u",
                engine_model="m",
                revisions=(RevisionRoute(name="m-1", weight_percent=100, endpoints=ends),),
                routing=RoutingRoute(block_tokens=SIZE),
            ),
        ),
    )


async def test_once_there_are_several_its_events_are_heard_no_more_and_it_is_known_by_what_was_sent() -> None:
    ports = free_port(), free_port()
    routing = Routing(
        Pool(),
        SteadyClock(),
        open_profile,
        Demand(),
        is_precise=lambda service: True,
        waiting=lambda key: 0,
    )
    engine = HandEngine(ports[0])
    blocks = token_blocks(range(8 * SIZE), SIZE, chain_seed("m"))
    try:
        routing.apply(table(*ports))
        router = routing.routers["default", "m"]
        name, load = f"e{ports[0]}", router.loads[f"e{ports[0]}"]
        number = 0

        def tell() -> None:
            nonlocal number
            engine.batch(number, stored(*range(8)))
            number += 1

        await until(lambda: router.index.is_precise(name) and router.index.match(blocks, 0.0), tell)
        load.ranks = 2
        routing._sized(load)
        assert not router.index.is_precise(name)
        assert router.index.confidence(name) < 0.9
        router.index.sent(name, token_blocks([7] * 8 * SIZE, SIZE, chain_seed("m")), 0.0)
        assert router.index.match(token_blocks([7] * 8 * SIZE, SIZE, chain_seed("m")), 1e6)
    finally:
        engine.close()
        await routing.close()
