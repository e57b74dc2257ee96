"""Simulated engines behind several gateways, in virtual time: routers and gossip are the real ones, the network between gateways is not."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from benchmarks.routing_gateways.workload import ROUTED_BLOCKS, Arrival, Ask

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.engine.simulated.model import Engine
from penstock.engine.simulated.profile import EngineProfile
from penstock.engine.simulated.request import Request
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.gossip import EXCHANGE_S, Gossip
from penstock.gateway.router import Router, Trip

BLOCK_TOKENS = 64
POLL_S = 2.0


class Network(NamedTuple):
    """How long a message between gateways takes, and which share is lost."""

    delay_s: float = 0.0
    loss: float = 0.0


class Outcome(NamedTuple):
    """Of requests after the first `warm_s`: seconds, and which share of prompts' tokens engines found in their caches."""

    e2e_s: list[float]
    ttft_s: list[float]
    hit_rate: float
    bytes_per_s: float
    told_cpu_s: float


class Hand:
    """A clock that is set."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now(self) -> float:
        """Both clocks are one."""
        return self.at

    monotonic = now

    async def sleep(self, seconds: float) -> None:
        """Nobody sleeps here."""
        raise NotImplementedError


class Wire:
    """One gateway's channel to all others."""

    max_payload_bytes = 1_300

    def __init__(self, send: Callable[[Wire, bytes], None]) -> None:
        self._send = send
        self.heard: Callable[[str, bytes], object] = lambda sender, payload: None

    def subscribe(self, kind: str, callback: Callable[[str, bytes], object]) -> None:
        """There is one kind."""
        self.heard = callback

    def broadcast(self, kind: str, payload: bytes) -> bool:
        """To all others, after a while."""
        self._send(self, payload)
        return True


class _Asked(NamedTuple):
    ask: Ask
    router: Router
    trip: Trip
    arrived_at: float


class World:
    """One run. `network` None: gateways do not hear each other."""

    def __init__(
        self, profile: EngineProfile, engines: int, gateways: int, network: Network | None, seed: int
    ) -> None:
        self.clock, self._chance, self._network = Hand(), random.Random(seed), network
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        names = [f"pod-{number}" for number in range(engines)]
        self._engines = {name: Engine(profile, self.clock.at) for name in names}
        endpoints = tuple(Endpoint(name=name, address="127.0.0.1", port=1) for name in names)
        revisions = (RevisionRoute(name="r", weight_percent=100, endpoints=endpoints),)
        routing = RoutingRoute(block_tokens=BLOCK_TOKENS)
        self.service = ServiceRoute(
            namespace="n", name="s", uid="u", engine_model="m", revisions=revisions, routing=routing
        )
        self.routers = [Router(self.service, open_profile) for _ in range(gateways)]
        for router in self.routers:
            for load in router.loads.values():
                load.kv_tokens = profile.kv_tokens
                router.sized(load)
        self._wires = [Wire(self._carry) for _ in range(gateways)]
        self.gossips: list[Gossip] = []
        for number, wire in enumerate(self._wires if network is not None else ()):
            gossip = Gossip(f"gateway-{number}", Endpoints(self.clock), self.clock, far=wire)
            gossip.keep({("n", "s"): self.routers[number]})
            self.gossips.append(gossip)
            self._at(self.clock.at + EXCHANGE_S * number / gateways, partial(self._tick, gossip))
        self.told_cpu_s = 0.0
        self._warm_at = 0.0
        self._e2e: list[float] = []
        self._ttft: list[float] = []

    def run(self, arrivals: Sequence[Arrival], span_s: float, warm_s: float) -> Outcome:
        """All that come within `span_s`, to their end."""
        start = self.clock.at
        self._warm_at = start + warm_s
        for arrival in arrivals:
            self._at(start + arrival.at, partial(self._arrive, arrival.ask))
        self._at(start, self._poll)
        end, queried, hit = start + span_s, 0, 0
        self._at(self._warm_at, lambda: None)
        warm = None
        while self._due or any(engine.next_at < float("inf") for engine in self._engines.values()):
            engine = min(self._engines.values(), key=lambda one: one.next_at)
            if self._due and self._due[0][0] <= engine.next_at:
                self.clock.at, _, act = heappop(self._due)
                act()
            else:
                self.clock.at = engine.next_at
                self._step(engine)
            if warm is None and self.clock.at >= self._warm_at:
                warm = self._tokens()
            if self.clock.at > end and not self._busy():
                break
        before, after = warm or (0, 0), self._tokens()
        queried, hit = after[0] - before[0], after[1] - before[1]
        passed_s = self.clock.at - start
        told = sum(gossip.told_bytes for gossip in self.gossips) / max(1, len(self.gossips))
        return Outcome(self._e2e, self._ttft, hit / max(1, queried), told / passed_s, self.told_cpu_s)

    def _busy(self) -> bool:
        return any(engine.running or engine.waiting for engine in self._engines.values())

    def _tokens(self) -> tuple[int, int]:
        engines = self._engines.values()
        return sum(one.queried_tokens for one in engines), sum(one.hit_tokens for one in engines)

    def _at(self, at: float, act: Callable[[], None]) -> None:
        heappush(self._due, (at, next(self._order), act))

    def _arrive(self, ask: Ask) -> None:
        now, router = self.clock.at, self._chance.choice(self.routers)
        blocks = ask.prompt_tokens // BLOCK_TOKENS
        hashes = ask.chain[ROUTED_BLOCKS - 1 : blocks * ROUTED_BLOCKS : ROUTED_BLOCKS]
        prompt = Prompt(
            draw=self._chance.getrandbits(64),
            tokens=ask.prompt_tokens,
            hashes=hashes,
            block_tokens=BLOCK_TOKENS,
        )
        held = router.held(prompt, now)
        route = router.route(self.service, prompt, held, now)
        assert route is not None
        trip = router.sent(route.endpoint.name, prompt, held, now)
        assert trip is not None
        router.kept(trip, now)
        trip.streams = True
        engine = self._engines[route.endpoint.name]
        whole = ask.prompt_tokens // engine.profile.block_tokens
        request = Request(
            ask.prompt_tokens,
            ask.output_tokens,
            ask.chain[:whole],
            ask.chain[whole:],
            data=_Asked(ask, router, trip, now),
        )
        engine.offer(request, now)

    def _step(self, engine: Engine) -> None:
        now, happened = self.clock.at, engine.step()
        for request in happened.started:
            asked: _Asked = request.data
            asked.router.began(asked.trip, now)
            if asked.arrived_at >= self._warm_at:
                self._ttft.append(now - asked.arrived_at)
        for request in happened.ended:
            asked = request.data
            asked.router.ended(
                asked.trip, now, request.prompt_tokens, request.cached_tokens, request.output_tokens
            )
            if asked.arrived_at >= self._warm_at:
                self._e2e.append(now - asked.arrived_at)
            if asked.ask.then is not None:
                later_s, then = asked.ask.then
                self._at(now + later_s, partial(self._arrive, then))

    def _poll(self) -> None:
        for router in self.routers:
            for name, load in router.loads.items():
                engine = self._engines[name]
                load.waiting, load.running = float(engine.waiting), float(engine.running)
                load.kv_use = engine.kv_use
        self._at(self.clock.at + POLL_S, self._poll)

    def _tick(self, gossip: Gossip) -> None:
        before = time.process_time()
        gossip.tell()
        self.told_cpu_s += time.process_time() - before
        self._at(self.clock.at + EXCHANGE_S, partial(self._tick, gossip))

    def _carry(self, sender: Wire, payload: bytes) -> None:
        network = self._network
        assert network is not None
        for wire in self._wires:
            if wire is not sender and self._chance.random() >= network.loss:
                late_s = network.delay_s * self._chance.uniform(0.8, 1.2)
                self._at(self.clock.at + late_s, partial(self._hear, wire, payload))

    def _hear(self, wire: Wire, payload: bytes) -> None:
        before = time.process_time()
        wire.heard("wire", payload)
        self.told_cpu_s += time.process_time() - before
