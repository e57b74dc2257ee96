"""A waiting room in virtual time: endpoints that take what they are given, and callers who want a turn there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from penstock.contracts.exchange import Endpoint, FlowRoute, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Pipeline, Prompt
from penstock.decide.priority import Rank
from penstock.gateway.router import Router
from penstock.gateway.waiting_line import Ask
from penstock.gateway.waiting_room import Turn, WaitingRoom
from penstock.kit.clock import SystemClock
from penstock.plugins.pickers.max_score import open_picker

ANYBODY = Rank(0, "a")


def endpoint(name: str, slots: int = 1, **labels: str) -> Endpoint:
    return Endpoint(name=name, address="127.0.0.2", port=1, slots=slots, labels=tuple(labels.items()))


def service(*endpoints: Endpoint, routing: RoutingRoute | None = None, **flow: float) -> ServiceRoute:
    routing = routing or RoutingRoute()
    return ServiceRoute(
        namespace="default",
        name="m",
        uid="u",
        engine_model="m",
        phase="Ready",
        revisions=(RevisionRoute(name="m-1", weight_percent=100, endpoints=endpoints),),
        routing=replace(routing, flow=FlowRoute(**flow)) if flow else routing,  # type: ignore[arg-type]
    )


class World:
    """`told` is who waited: band, outcome, seconds. `order` are those who have had a turn, by name."""

    def __init__(self, route: ServiceRoute) -> None:
        self.router = Router(route, lambda routing: Pipeline((), (), open_picker({})))
        self.told: list[tuple[str, str, float]] = []
        self.aside: set[str] = set()
        self.room = WaitingRoom(
            self.router, SystemClock(), aside=lambda: self.aside, told=lambda *one: self.told.append(one)
        )
        self.order: list[Any] = []

    def apply(self, route: ServiceRoute) -> None:
        self.router.apply(route)
        self.room.changed()

    def ask(
        self,
        tokens: int = 100,
        held: Mapping[str, float] | None = None,
        *,
        batch: bool = False,
        size: int = 1,
    ) -> Ask:
        return self.room.ask(Prompt(draw=1, tokens=tokens, is_batch=batch), held or {}, size)

    async def turn(self, ask: Ask, rank: Rank = ANYBODY, within_s: float | None = None) -> Turn:
        """At once if that can be."""
        now = asyncio.get_running_loop().time()
        return self.room.turn_at_once(ask, now, lambda: rank) or await self.room.turn(ask, rank, within_s)

    async def request(
        self,
        name: Any,
        ask: Ask | None = None,
        rank: Rank = ANYBODY,
        *,
        prefill_s: float = 0.0,
        takes_s: float = 1.0,
        within_s: float | None = None,
    ) -> None:
        """A whole request: its turn, its way to the endpoint with the least under way, its answer."""
        ask = ask or self.ask()
        turn = await self.turn(ask, rank, within_s)
        try:
            self.order.append(name)
            load = min(self.router.loads.values(), key=lambda load: load.in_flight)
            load.in_flight += 1
            load.prefilling += 1
            load.uncached_tokens += ask.tokens
            await asyncio.sleep(prefill_s)
            load.prefilling -= 1
            load.uncached_tokens -= ask.tokens
            turn.began()
            await asyncio.sleep(takes_s)
            load.in_flight -= 1
        finally:
            turn.ended()

    def start(
        self, name: Any, ask: Ask | None = None, rank: Rank = ANYBODY, **timing: Any
    ) -> asyncio.Task[None]:
        return asyncio.create_task(self.request(name, ask, rank, **timing))


async def settle() -> None:
    """Whatever can happen now, has."""
    for _ in range(10):
        await asyncio.sleep(0)
