"""What one service's requests are routed by: what is under way at each endpoint, what each is taken to hold, and how fast each is.

All of it is this gateway's own count and memory; engines' events and metrics correct it from outside (`index`, `loads`). Nothing here waits,
and nothing asks the time: `now` is monotonic, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from penstock.contracts.exchange import Endpoint, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Load, Pipeline, Prompt
from penstock.decide.choice import Reasons
from penstock.decide.rates import Rates, between_tokens, first_token
from penstock.decide.routing import Route, explain_route, only_endpoint, route_by_profile
from penstock.gateway.follow_ups import FollowUps
from penstock.gateway.kv_index import KvIndex
from penstock.gateway.profiles import Profiles
from penstock.gateway.shares import Shares

OpenProfile = Callable[[RoutingRoute], Pipeline]
NOTHING_HELD: Mapping[str, float] = {}


class Trip(Struct, eq=False):
    """One request's way to one endpoint, as it counts there. Times are monotonic, 0 where that has not happened.

    Only an answer that `streams` says when its prompt was computed. `cached_tokens` of the prompt were expected to be held there, whatever the index is believed; `ahead_tokens` had to be computed before it.
    `shared_blocks` of its first had been somewhere before. One that is `spared` has its prompt computed elsewhere.
    """

    load: Load
    prompt: Prompt
    cached_tokens: float
    own_tokens: float
    ahead_tokens: float
    sent_at: float
    first_at: float = 0.0
    streams: bool = False
    is_kept: bool = False
    shared_blocks: int = 0
    spared: bool = False


class Router:
    """One for a service with a routing profile. `loads` are by endpoint's name, as is everything in `index`.

    Loads are those of all gateways together; `shares` knows which part is whose. `on_sent(name, hashes)` is told of each prompt that goes
    somewhere, `on_learned` what `learned` takes of each answer.
    `prefill` are the endpoints of each revision that only compute prompts; they have loads as well. `has_choice`: there are several
    endpoints; else `only` is the one that gets traffic, with its revision. `warms`: a second one would be warmed with what prompts share.
    """

    def __init__(self, service: ServiceRoute, open_profile: OpenProfile) -> None:
        """Raises InvalidInput for a profile with parts that are not there."""
        routing = service.routing
        assert routing is not None, "services without a profile have no router"
        self._open = open_profile
        self._routing = routing
        self.profiles = Profiles(f"{service.namespace}/{service.name}", routing, open_profile)
        self.service = service
        self.index = KvIndex(routing.block_tokens, service.engine_model)
        self.loads: dict[str, Load] = {}
        self.prefill: dict[str, tuple[Endpoint, ...]] = {}
        self._follow_ups = FollowUps()
        self.shares = Shares(self.loads)
        self.on_sent: Callable[[str, Sequence[int]], None] | None = None
        self.on_learned: Callable[[str, float, float, float], None] | None = None
        self.is_weighed = self.has_choice = self.warms = False
        self.only: tuple[str, Endpoint] | None = None
        self._rates: dict[str, Rates] = {}
        self.apply(service)

    def apply(self, service: ServiceRoute) -> None:
        """It has these endpoints and this profile from now on. What is known of endpoints that stay is kept.

        Raises InvalidInput for a profile with parts that are not there: the endpoints are taken, the profile stays as it was.
        """
        self.service = service
        self.prefill = {r.name: r.prefill for r in service.revisions if r.prefill}
        present = {e.name: (r.name, e) for r in service.revisions for e in (*r.endpoints, *r.prefill)}
        for name in [name for name in self.loads if name not in present]:
            del self.loads[name]
            self._rates.pop(name, None)
            self.shares.forget(name)
            self.index.forget(name)
        for name, (revision, endpoint) in present.items():
            self._keep(name, revision, endpoint)
        self.has_choice = len(present) > 1
        self.only = None if self.has_choice else only_endpoint(service)
        routing = service.routing
        assert routing is not None, "a service that loses its profile loses its router"
        self.warms = routing.prewarm_prefixes > 0
        if routing != self._routing:
            self.profiles = Profiles(self.profiles.service, routing, self._open)
            self._routing = routing
            if routing.block_tokens != self.index.block_tokens:
                self.rehash()
                self._follow_ups.clear()

    def _keep(self, name: str, revision: str, endpoint: Endpoint) -> None:
        known = self.loads.get(name)
        if known is None:
            known = self.loads[name] = Load(endpoint=endpoint)
            self.index.add(name)
        elif known.endpoint == endpoint:
            return
        known.endpoint, known.revision, known.labels = endpoint, revision, dict(endpoint.labels)
        known.step_requests = endpoint.step_requests

    def rehash(self) -> None:
        """Prompts are hashed otherwise from now on: the index begins anew; the sizes of caches stay known."""
        self.index = KvIndex(self._routing.block_tokens, self.service.engine_model)
        for name, load in self.loads.items():
            self.index.add(name)
            self.sized(load)

    def weigh(self, weights: Mapping[str, float]) -> None:
        """Endpoints that start slowly take part in such a share of choices; all others in each."""
        if weights or self.is_weighed:
            for name, load in self.loads.items():
                load.weight = weights.get(name, 1.0)
            self.is_weighed = bool(weights)

    def sized(self, load: Load) -> None:
        """Its engine said how many tokens its cache holds."""
        if load.kv_tokens and load.endpoint.name in self.loads:
            self.index.add(load.endpoint.name, max(1, load.kv_tokens // self.index.block_tokens))

    def held(self, prompt: Prompt, now: float) -> Mapping[str, float]:
        """How many tokens of the prompt's beginning endpoints are expected to hold, by name; those that hold none are left out."""
        if not prompt.hashes:
            return NOTHING_HELD
        matched = self.index.match(prompt.hashes, now)
        held = self.index.believed(matched, prompt.block_tokens)
        more = self._follow_ups.after(prompt.hashes, matched)
        if more is not None:
            name, tokens = more
            held[name] = min(held[name] + tokens * self.index.confidence(name), float(prompt.tokens))
        return held

    def route(
        self,
        service: ServiceRoute,
        prompt: Prompt,
        held: Mapping[str, float],
        now: float,
        avoid: Collection[str] = (),
        exclude: Collection[str] = (),
        session: str = "",
    ) -> Route | None:
        """The endpoint that the profile chooses; `service` is its own, or a view of one of its revisions.

        None where there is none left, or a filter that insists leaves none.
        """
        by, pipeline = self.profiles.of(service, prompt)
        return route_by_profile(by, prompt, self.loads, held, pipeline, now, avoid, exclude, session)

    def explain(
        self,
        service: ServiceRoute,
        prompt: Prompt,
        held: Mapping[str, float],
        now: float,
        avoid: Collection[str] = (),
        exclude: Collection[str] = (),
        session: str = "",
    ) -> Reasons | None:
        """All that `route` weighs for the same arguments, at the same moment."""
        by, pipeline = self.profiles.of(service, prompt)
        return explain_route(by, prompt, self.loads, held, pipeline, now, avoid, exclude, session)

    def sent(self, name: str, prompt: Prompt, held: Mapping[str, float], now: float) -> Trip | None:
        """A request goes there. None for an endpoint that is gone meanwhile, where nothing is counted."""
        load = self.loads.get(name)
        if load is None:
            return None
        own, indexed = float(prompt.tokens), 0.0
        if held and (believed := held.get(name, 0.0)):
            confidence = self.index.confidence(name)
            indexed = min(believed / confidence, own) if confidence else 0.0
            own = max(0.0, own - believed)
        trip = Trip(load, prompt, indexed, own, load.uncached_tokens, now)
        load.in_flight += 1
        load.own_in_flight += 1
        load.own_sent_s += now
        load.prefilling += 1
        load.uncached_tokens += own
        if not held:
            load.cold_at = now
        if self.on_sent is not None:
            self.shares.changed.add(name)
        return trip

    def kept(self, trip: Trip, now: float) -> None:
        """The request is on the wire: its prompt will be held there. Apart from `sent`, for it takes longer than a request should wait."""
        hashes, name = trip.prompt.hashes, trip.load.endpoint.name
        if hashes and not trip.is_kept:
            trip.is_kept = True
            if self.on_sent is not None:
                self.on_sent(name, hashes)
            trip.shared_blocks = self.index.sent(name, hashes, now)

    def spares(self, trip: Trip) -> None:
        """Its prompt is computed elsewhere: it has nothing to compute where it goes."""
        self._computed(trip)
        trip.spared = True
        self._changed(trip.load)

    def computes(self, trip: Trip) -> None:
        """It is not, after all."""
        trip.spared = False
        trip.load.uncached_tokens += trip.own_tokens
        self._changed(trip.load)

    def began(self, trip: Trip, now: float) -> None:
        """Its answer begins: its prompt has been computed, and is held for what follows."""
        if trip.first_at:
            return
        trip.first_at = now
        load = trip.load
        load.prefilling -= 1
        self._computed(trip)
        load.context_tokens += trip.prompt.tokens
        self._changed(load)

    def ended(
        self, trip: Trip, now: float, prompt_tokens: int, cached_tokens: int, completion_tokens: int
    ) -> None:
        """It is over. Counts are what the engine told, -1 where it told nothing: that of one whose answer had not begun teaches nothing."""
        load, hashes = trip.load, trip.prompt.hashes
        name, own = load.endpoint.name, trip.own_tokens
        load.in_flight -= 1
        load.own_in_flight -= 1
        load.own_sent_s = load.own_sent_s - trip.sent_at if load.own_in_flight else 0.0
        if self.on_sent is not None:
            self.shares.changed.add(name)
        if trip.first_at:
            load.context_tokens = max(0.0, load.context_tokens - trip.prompt.tokens)
        else:
            load.prefilling -= 1
            self._computed(trip)
            if prompt_tokens <= 0:
                return
        if hashes and completion_tokens > 0 and not self.index.is_precise(name):
            self._follow_ups.answered(name, hashes, completion_tokens)
        if cached_tokens >= 0 and prompt_tokens > 0 and not trip.spared:
            own = prompt_tokens - min(cached_tokens, prompt_tokens)
            self.index.answered(name, trip.cached_tokens, cached_tokens)
            load.confidence = self.index.confidence(name)
        if trip.streams:
            self._learn(name, trip, own, now, completion_tokens)

    def _computed(self, trip: Trip) -> None:
        """Its prompt waits no more where it goes."""
        if not trip.spared:
            trip.load.uncached_tokens = max(0.0, trip.load.uncached_tokens - trip.own_tokens)

    def _changed(self, load: Load) -> None:
        """Who else counts what is under way there is to be told."""
        if self.on_sent is not None:
            self.shares.changed.add(load.endpoint.name)

    def _learn(self, name: str, trip: Trip, own_tokens: float, now: float, completion_tokens: int) -> None:
        first_s = 0.0 if trip.spared else trip.first_at - trip.sent_at
        between_s = (now - trip.first_at) / (completion_tokens - 1) if completion_tokens > 1 else 0.0
        self.learned(name, trip.ahead_tokens + own_tokens, first_s, between_s)
        if self.on_learned is not None:
            self.on_learned(name, trip.ahead_tokens + own_tokens, first_s, between_s)

    def learned(self, name: str, uncached_tokens: float, first_s: float, between_s: float) -> None:
        """An answer came from there, to this gateway or another: its first token in `first_s`, the others `between_s` apart; 0 for what is unknown."""
        load = self.loads.get(name)
        if load is None:
            return
        rates = first_token(self._rates.get(name) or Rates(), uncached_tokens, first_s)
        rates = self._rates[name] = between_tokens(rates, between_s)
        load.prefill_s, load.prefill_token_s = rates.prefill_s, rates.prefill_token_s
        load.decode_s, load.is_measured = rates.decode_s, rates.is_measured
