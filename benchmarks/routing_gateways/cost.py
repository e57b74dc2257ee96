"""What gossip costs a gateway that routes 1,000 requests a second: processor time, and bytes to each other gateway."""

from __future__ import annotations

import random
import time
from collections import deque
from typing import NamedTuple

from benchmarks.routing_gateways.workload import ROUTED_BLOCKS, chain
from benchmarks.routing_gateways.world import BLOCK_TOKENS, Hand, Wire

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.gossip import EXCHANGE_S, Gossip
from penstock.gateway.router import Router, Trip

RATE = 1_000
ENDPOINTS = 128
PREFIX_TOKENS, OWN_TOKENS = 6_000, 1_200
GROUPS = 256
PREFILL_S, ANSWER_S, ANSWER_TOKENS = 0.25, 2.0, 200


class Cost(NamedTuple):
    """Of one gateway, in shares of a core; bytes are before the signature, to one other gateway."""

    gateways: int
    bytes_per_s: float
    messages_per_s: float
    telling: float
    hearing: float
    pushed_out: int


class _Gateway:
    def __init__(self, number: int, clock: Hand, service: ServiceRoute) -> None:
        self.router = Router(service, open_profile)
        for load in self.router.loads.values():
            load.kv_tokens = 500_000
            self.router.sized(load)
        self.said: list[bytes] = []
        self.wire = Wire(lambda _, payload: self.said.append(payload))
        self.gossip = Gossip(f"gateway-{number}", Endpoints(clock), clock, far=self.wire)
        self.gossip.keep({("n", "s"): self.router})
        self.began: deque[tuple[float, Trip]] = deque()
        self.ended: deque[tuple[float, Trip]] = deque()


def cost(gateways: int, span_s: float, seed: int = 1) -> Cost:
    """Requests have a prefix of one of many groups and an end of their own; each is sent to an endpoint by chance within its group's four."""
    chance, clock = random.Random(seed), Hand()
    endpoints = tuple(Endpoint(name=f"pod-{n}", address="127.0.0.1", port=1) for n in range(ENDPOINTS))
    service = ServiceRoute(
        namespace="n",
        name="s",
        uid="u",
        engine_model="m",
        revisions=(RevisionRoute(name="r", weight_percent=100, endpoints=endpoints),),
        routing=RoutingRoute(block_tokens=BLOCK_TOKENS),
    )
    among = [_Gateway(number, clock, service) for number in range(gateways)]
    telling = hearing = 0.0
    own, steps, warm = 1 << 20, round((span_s + 2.0) / EXCHANGE_S), round(2.0 / EXCHANGE_S)
    before = 0, 0
    for step in range(steps):
        if step == warm:
            telling = hearing = 0.0
            before = among[0].gossip.told_bytes, among[0].gossip.told_messages
        clock.at += EXCHANGE_S
        for gateway in among:
            for _ in range(round(RATE * EXCHANGE_S)):
                own += 1
                _send(gateway, chance, own, clock.at)
            _settle(gateway, clock.at)
        for gateway in among:
            started = time.process_time()
            gateway.gossip.tell()
            telling += time.process_time() - started
        for gateway in among:
            said, gateway.said = gateway.said, []
            started = time.process_time()
            for payload in said:
                for other in among:
                    if other is not gateway:
                        other.wire.heard("wire", payload)
            hearing += time.process_time() - started
    first, each = among[0].gossip, gateways * span_s
    return Cost(
        gateways,
        (first.told_bytes - before[0]) / span_s,
        (first.told_messages - before[1]) / span_s,
        telling / each,
        hearing / each,
        first.faults["gossip_pushed_out"],
    )


_HEADS = [chain((1 + group, PREFIX_TOKENS)) for group in range(GROUPS)]


def _send(gateway: _Gateway, chance: random.Random, own: int, now: float) -> None:
    group = chance.randrange(GROUPS)
    tail = chain((own, OWN_TOKENS))
    hashes = (_HEADS[group] + tail)[ROUTED_BLOCKS - 1 :: ROUTED_BLOCKS]
    prompt = Prompt(draw=own, tokens=PREFIX_TOKENS + OWN_TOKENS, hashes=hashes, block_tokens=BLOCK_TOKENS)
    name = f"pod-{(group * 4 + chance.randrange(4)) % ENDPOINTS}"
    trip = gateway.router.sent(name, prompt, {name: float(PREFIX_TOKENS)}, now)
    assert trip is not None
    gateway.router.kept(trip, now)
    trip.streams = True
    gateway.began.append((now + PREFILL_S, trip))


def _settle(gateway: _Gateway, now: float) -> None:
    while gateway.began and gateway.began[0][0] <= now:
        _, trip = gateway.began.popleft()
        gateway.router.began(trip, now)
        gateway.ended.append((now + ANSWER_S, trip))
    while gateway.ended and gateway.ended[0][0] <= now:
        trip = gateway.ended.popleft()[1]
        gateway.router.ended(trip, now, trip.prompt.tokens, PREFIX_TOKENS, ANSWER_TOKENS)
