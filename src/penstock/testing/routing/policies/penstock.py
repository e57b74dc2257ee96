"""Penstock's built-in profile with engines' KV events: the gateway's own code (`gateway/router.py`, `decide/kv_sequence.py`), metrics every 2 s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.decide import kv_sequence
from penstock.engine.simulated.request import Removed, Stored
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.gossip import Gossip
from penstock.gateway.router import NOTHING_HELD, Router, Trip
from penstock.testing.routing.ask import MODEL, Ask, tokens_of
from penstock.testing.routing.policy import Batch, Policy, Setup
from penstock.testing.routing.wire import Wire, WorldClock


class Penstock(Policy):
    """The router of one gateway."""

    scrape_s = 2.0
    hears_events = True

    def __init__(self, setup: Setup, routing: RoutingRoute | None = None) -> None:
        super().__init__(setup)
        self.names = [f"replica-{place}" for place in self.everyone]
        self._places = {name: place for place, name in enumerate(self.names)}
        pool = tuple(Endpoint(name=name, address="127.0.0.1", port=1) for name in self.names)
        routing = routing or RoutingRoute(block_tokens=setup.block_tokens)
        service = ServiceRoute(
            namespace="simulated",
            name="simulated",
            uid="simulated",
            engine_model=MODEL,
            revisions=(RevisionRoute(name="r", weight_percent=100, endpoints=pool),),
            routing=routing,
        )
        self.router = Router(service, open_profile)
        self.wire = Wire(f"gateway-{setup.seed}")
        self._trips: dict[Ask, Trip] = {}
        self._prompt = Prompt(draw=0)
        self._held: Mapping[str, float] = NOTHING_HELD
        self._numbers = [kv_sequence.Sequence() for _ in self.everyone]
        for load in self.router.loads.values():
            load.kv_tokens = setup.profile.kv_tokens
            self.router.sized(load)
        if self.hears_events:
            for name in self.names:
                self.router.index.restarted(name)

    def choose(self, ask: Ask, now: float) -> int:
        """As the gateway does it."""
        self._prompt = Prompt(
            draw=self.chance.getrandbits(64),
            tokens=ask.prompt_tokens,
            hashes=ask.hashes,
            block_tokens=self.setup.block_tokens,
            session=ask.session,
        )
        self._held = self.router.held(self._prompt, now)
        route = self.router.route(self.router.service, self._prompt, self._held, now)
        assert route is not None, "there are endpoints, and no filter insists"
        return self._places[route.endpoint.name]

    def sent(self, ask: Ask, replica: int, now: float) -> None:
        """Answers stream."""
        super().sent(ask, replica, now)
        trip = self.router.sent(self.names[replica], self._prompt, self._held, now)
        assert trip is not None, "no endpoint goes away"
        trip.streams = True
        self.router.kept(trip, now)
        self._trips[ask] = trip

    def expected(self, ask: Ask) -> float:
        """What its index said, whatever it is believed."""
        return self._trips[ask].cached_tokens

    def began(self, ask: Ask, replica: int, now: float) -> None:
        """As the gateway sees the first token."""
        self.router.began(self._trips[ask], now)

    def ended(self, ask: Ask, replica: int, now: float, cached_tokens: int) -> None:
        """Engines say how much of the prompt was cached."""
        super().ended(ask, replica, now, cached_tokens)
        trip = self._trips.pop(ask)
        if cached_tokens < 0:
            self.router.ended(trip, now, -1, -1, -1)
        else:
            self.router.ended(trip, now, ask.prompt_tokens, cached_tokens, ask.output_tokens)

    def meet(self, others: Sequence[Policy]) -> None:
        """By the gateway's own gossip; routers of another kind hear nothing."""
        self._clock = WorldClock()
        self._gossip = Gossip(self.wire.name, Endpoints(self._clock), self._clock, near=self.wire)
        self._gossip.keep({("simulated", "simulated"): self.router})
        self.wire.others = [other.wire for other in others if isinstance(other, Penstock)]

    def gossip(self, now: float) -> None:
        """As its loop does it."""
        self._clock.at = now
        self._gossip.tell()

    def scraped(self, now: float) -> None:
        """What engines say of themselves."""
        super().scraped(now)
        for name, place in self._places.items():
            load = self.router.loads[name]
            load.waiting, load.running = self.waiting[place], self.running[place]
            load.kv_use = self.kv_use[place]

    def told(self, replica: int, batch: Batch, now: float) -> None:
        """The numbers of batches are watched, and what is missed is asked for again."""
        replay = self.setup.replay
        can_replay = replay is not None
        step = kv_sequence.heard(self._numbers[replica], batch.number, batch.at, now, can_replay=can_replay)
        self._take(replica, step, batch.events)
        if step.replay_from < 0 or replay is None:
            return
        for old in replay(replica, step.replay_from):
            again = kv_sequence.replayed(self._numbers[replica], old.number, old.at)
            self._take(replica, again, old.events)
        self._take(replica, kv_sequence.replay_ended(self._numbers[replica], now), ())

    def _take(self, replica: int, step: kv_sequence.Step, events: Sequence[Stored | Removed]) -> None:
        """In the order that `Step` says."""
        index, name = self.router.index, self.names[replica]
        self._numbers[replica] = step.state
        if step.drop:
            index.restarted(name)
        if step.distrust:
            index.distrust(name)
        if step.trust:
            index.trust(name)
        if not step.apply:
            return
        size = self.setup.block_tokens
        for event in events:
            if isinstance(event, Removed):
                index.removed(name, event.hashes)
                continue
            request, first, end = event
            hashes = (*request.hashes, *request.answer_hashes)
            words = tokens_of(request.data.ask.ids[first:end], size)
            index.stored(name, hashes[first - 1] if first else None, hashes[first:end], words, size)


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return Penstock(setup)
