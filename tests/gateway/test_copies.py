"""How many replicas come to hold a hot beginning of prompts: the router in front of simulated engines, in their time.

No rule says how many copies there should be: a request goes where another replica has to compute the beginning anew as soon as that is sooner.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.engine.simulated.model import Engine
from penstock.engine.simulated.profile import load_profile
from penstock.engine.simulated.request import Request
from penstock.gateway.router import Router, Trip

PROFILE = load_profile("llama-8b-h100")
BLOCK = PROFILE.block_tokens
NAMES = ("a", "b", "c", "d")
HOT = tuple(range(1, 8192 // BLOCK + 1))
SECONDS, ANSWER = 20.0, 150


class Outcome(NamedTuple):
    """`copies` of the hot beginning, how often it was `computed`, and the mean time to a first token (s)."""

    copies: int
    computed: int
    first_s: float


class Fleet:
    """Four engines; `hot_rate` requests a second begin alike, `other_rate` are all different."""

    def __init__(self, hot_rate: float, other_rate: float, seed: int = 1) -> None:
        ends = tuple(
            Endpoint(name=name, address="127.0.0.1", port=port) for port, name in enumerate(NAMES, 1)
        )
        self.route = ServiceRoute(
            namespace="d",
            name="m",
            uid="u",
            engine_model="m",
            revisions=(RevisionRoute(name="r", weight_percent=100, endpoints=ends),),
            routing=RoutingRoute(block_tokens=BLOCK),
        )
        self.router = Router(self.route, open_profile)
        self.engines = {name: Engine(PROFILE, 0.0) for name in NAMES}
        self.random = random.Random(seed)
        self.rates = hot_rate, other_rate
        self.trips: dict[Request, Trip] = {}
        self.done: list[Request] = []

    def hold(self, names: Sequence[str]) -> None:
        """They have computed the hot beginning before anybody asks."""
        for name in names:
            self.engines[name].offer(Request(len(HOT) * BLOCK + 1, 1, HOT), 0.0)
            self.router.index.warmed(name, HOT, 0.0)

    def run(self, only: str = "") -> Outcome:
        """With `only`, hot prompts all go there."""
        now = 0.0
        while now < SECONDS:
            now += self.random.expovariate(sum(self.rates))
            self.advance(now)
            self.ask(now, only)
        self.advance(float("inf"))
        hot = [one for one in self.done if one.hashes[:1] == HOT[:1]]
        matched = self.router.index.match(HOT, now)
        return Outcome(
            sum(blocks == len(HOT) for blocks in matched.values()),
            sum(one.cached_tokens < len(HOT) * BLOCK for one in hot),
            statistics.mean(one.first_at - one.sent_at for one in self.done),
        )

    def ask(self, now: float, only: str) -> None:
        hot_rate, other_rate = self.rates
        is_hot = self.random.random() < hot_rate / (hot_rate + other_rate)
        tokens = 200 if is_hot else 64 + int(self.random.expovariate(1 / 1500))
        own = tuple(self.random.getrandbits(60) + 10**6 for _ in range(tokens // BLOCK))
        hashes = HOT + own if is_hot else own
        tokens += len(HOT) * BLOCK if is_hot else 0
        prompt = Prompt(
            draw=self.random.getrandbits(64),
            tokens=tokens,
            hashes=hashes,
            block_tokens=BLOCK,
            output_tokens=ANSWER,
        )
        held = self.router.held(prompt, now)
        chosen = self.router.route(self.route, prompt, held, now)
        assert chosen is not None
        name = only if only and is_hot else chosen.endpoint.name
        trip = self.router.sent(name, prompt, held, now)
        assert trip is not None
        self.router.kept(trip, now)
        request = Request(tokens, 1 + int(self.random.expovariate(1 / ANSWER)), hashes)
        self.trips[request] = trip
        self.engines[name].offer(request, now)

    def advance(self, until: float) -> None:
        while True:
            engine = min(self.engines.values(), key=lambda one: one.next_at)
            now = engine.next_at
            if now > until or now == float("inf"):
                return
            happened = engine.step()
            for request in happened.started:
                if request in self.trips:
                    self.trips[request].streams = True
                    self.router.began(self.trips[request], now)
            for request in happened.ended:
                trip = self.trips.pop(request, None)
                if trip is not None:
                    counts = (request.prompt_tokens, request.cached_tokens, request.output_tokens)
                    self.router.ended(trip, now, *counts)
                    self.done.append(request)


def test_what_is_asked_for_often_gets_copies_and_each_is_computed_once() -> None:
    outcome = Fleet(20.0, 4.0).run()
    assert len(NAMES) - 1 <= outcome.copies == outcome.computed


def test_what_is_asked_for_seldom_gets_fewer() -> None:
    assert Fleet(0.5, 14.0).run().copies < len(NAMES)


def test_copies_come_soon_enough() -> None:
    """Within a tenth of what it would be with a copy everywhere from the start; one copy alone is far from it."""
    everywhere = Fleet(20.0, 4.0)
    everywhere.hold(NAMES)
    best_s = everywhere.run().first_s
    assert Fleet(20.0, 4.0).run().first_s < 1.1 * best_s
    assert Fleet(20.0, 4.0).run(only="a").first_s > 1.5 * best_s
