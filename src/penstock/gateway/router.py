"""What one service's requests are routed by: what is under way at each endpoint, what each is taken to hold, and how fast each is.

All of it is this gateway's own count and memory; engines' events and metrics correct it from outside (`index`, `loads`). Nothing here waits,
and nothing asks the time: `now` is monotonic, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from penstock.contracts.exchange import Endpoint, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Load, Pipeline, Prompt
from penstock.decide.choice import Reasons
from penstock.decide.rates import Rates, between_tokens, first_token
from penstock.decide.routing import Route, explain_route, route_by_profile
from penstock.gateway.kv_index import KvIndex

OpenProfile = Callable[[RoutingRoute], Pipeline]
NOTHING_HELD: Mapping[str, float] = {}


class Trip:
    """One request's way to one endpoint, as it counts there. Times are monotonic, 0 where that has not happened.

    Only an answer that `streams` says when its prompt was computed. `cached_tokens` of the prompt were expected to be held there, whatever the index is believed; `ahead_tokens` had to be computed before it.
    """

    __slots__ = (
        "ahead_tokens",
        "cached_tokens",
        "first_at",
        "load",
        "own_tokens",
        "prompt",
        "sent_at",
        "streams",
    )

    def __init__(
        self, load: Load, prompt: Prompt, cached_tokens: float, own_tokens: float, sent_at: float
    ) -> None:
        self.load, self.prompt = load, prompt
        self.cached_tokens, self.own_tokens = cached_tokens, own_tokens
        self.ahead_tokens = load.uncached_tokens
        self.sent_at, self.first_at, self.streams = sent_at, 0.0, False


class Router:
    """One for a service with a routing profile. `loads` are by endpoint's name, as is everything in `index`."""

    def __init__(self, service: ServiceRoute, open_profile: OpenProfile) -> None:
        """Raises InvalidInput for a profile with parts that are not there."""
        routing = service.routing
        assert routing is not None, "services without a profile have no router"
        self._open = open_profile
        self._routing = routing
        self._pipeline = open_profile(routing)
        self.service = service
        self.index = KvIndex(routing.block_tokens, service.engine_model)
        self.loads: dict[str, Load] = {}
        self._rates: dict[str, Rates] = {}
        self.apply(service)

    def apply(self, service: ServiceRoute) -> None:
        """It has these endpoints and this profile from now on. What is known of endpoints that stay is kept."""
        routing = service.routing
        assert routing is not None, "a service that loses its profile loses its router"
        if routing != self._routing:
            self._pipeline = self._open(routing)
            if routing.block_tokens != self.index.block_tokens:
                self.index = KvIndex(routing.block_tokens, service.engine_model)
                for name in self.loads:
                    self.index.add(name)
            self._routing = routing
        self.service = service
        present = {e.name: (r.name, e) for r in service.revisions for e in r.endpoints}
        for name in [name for name in self.loads if name not in present]:
            del self.loads[name]
            self._rates.pop(name, None)
            self.index.forget(name)
        for name, (revision, endpoint) in present.items():
            self._keep(name, revision, endpoint)

    def _keep(self, name: str, revision: str, endpoint: Endpoint) -> None:
        known = self.loads.get(name)
        if known is None:
            self.loads[name] = Load(endpoint=endpoint, revision=revision, labels=dict(endpoint.labels))
            self.index.add(name)
        elif known.endpoint != endpoint:
            known.endpoint, known.revision, known.labels = endpoint, revision, dict(endpoint.labels)

    def sized(self, load: Load) -> None:
        """Its engine said how many tokens its cache holds."""
        if load.kv_tokens and load.endpoint.name in self.loads:
            self.index.add(load.endpoint.name, max(1, load.kv_tokens // self.index.block_tokens))

    def held(self, prompt: Prompt, now: float) -> Mapping[str, float]:
        """How many tokens of the prompt's beginning endpoints are expected to hold, by name; those that hold none are left out."""
        if not prompt.hashes:
            return NOTHING_HELD
        confidence, each = self.index.confidence, prompt.block_tokens
        matched = self.index.match(prompt.hashes, now)
        return {name: blocks * each * confidence(name) for name, blocks in matched.items()}

    def route(
        self,
        prompt: Prompt,
        held: Mapping[str, float],
        avoid: Collection[str] = (),
        exclude: Collection[str] = (),
        session: str = "",
    ) -> Route | None:
        """The endpoint that the profile chooses. None where there is none left, or a filter that insists leaves none."""
        return route_by_profile(
            self.service, prompt, self.loads, held, self._pipeline, avoid, exclude, session
        )

    def explain(
        self,
        prompt: Prompt,
        held: Mapping[str, float],
        avoid: Collection[str] = (),
        exclude: Collection[str] = (),
        session: str = "",
    ) -> Reasons | None:
        """All that `route` weighs for the same arguments, at the same moment."""
        return explain_route(self.service, prompt, self.loads, held, self._pipeline, avoid, exclude, session)

    def sent(self, name: str, prompt: Prompt, held: Mapping[str, float], now: float) -> Trip | None:
        """A request goes there. None for an endpoint that is gone meanwhile, where nothing is counted."""
        load = self.loads.get(name)
        if load is None:
            return None
        believed = held.get(name, 0.0)
        confidence = self.index.confidence(name)
        own = max(0.0, prompt.tokens - believed)
        trip = Trip(load, prompt, believed / confidence if confidence else 0.0, own, now)
        load.in_flight += 1
        load.prefilling += 1
        load.uncached_tokens += own
        if prompt.hashes:
            self.index.sent(name, prompt.hashes, now)
        return trip

    def began(self, trip: Trip, now: float) -> None:
        """Its answer begins: its prompt has been computed, and is held for what follows."""
        if trip.first_at:
            return
        trip.first_at = now
        load = trip.load
        load.prefilling -= 1
        load.uncached_tokens = max(0.0, load.uncached_tokens - trip.own_tokens)
        load.context_tokens += trip.prompt.tokens

    def ended(
        self, trip: Trip, now: float, prompt_tokens: int, cached_tokens: int, completion_tokens: int
    ) -> None:
        """It is over. Counts are what the engine told, -1 where it told nothing; those of an answer that failed teach nothing."""
        load = trip.load
        load.in_flight -= 1
        if not trip.first_at:
            load.prefilling -= 1
            load.uncached_tokens = max(0.0, load.uncached_tokens - trip.own_tokens)
            return
        load.context_tokens = max(0.0, load.context_tokens - trip.prompt.tokens)
        name = load.endpoint.name
        own = trip.own_tokens
        if cached_tokens >= 0 and prompt_tokens > 0:
            own = prompt_tokens - min(cached_tokens, prompt_tokens)
            self.index.answered(name, trip.cached_tokens, cached_tokens)
        load.confidence = self.index.confidence(name)
        if trip.streams:
            self._learn(name, load, trip, own, now, completion_tokens)

    def _learn(
        self, name: str, load: Load, trip: Trip, own_tokens: float, now: float, completion_tokens: int
    ) -> None:
        rates = self._rates.get(name) or Rates()
        rates = first_token(rates, trip.ahead_tokens + own_tokens, trip.first_at - trip.sent_at)
        if completion_tokens > 1:
            rates = between_tokens(rates, (now - trip.first_at) / (completion_tokens - 1))
        if name in self.loads:
            self._rates[name] = rates
        load.prefill_s, load.prefill_token_s = rates.prefill_s, rates.prefill_token_s
        load.decode_s, load.is_measured = rates.decode_s, rates.is_measured
