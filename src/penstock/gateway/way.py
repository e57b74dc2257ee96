"""How one request finds its endpoint, and what it counts for there until it is over: by its service's router, or by fewest requests."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.contracts.exchange import ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.decide.routing import Route, route
from penstock.gateway.call import Call, session_of
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.explained import Explained
from penstock.gateway.prompts import Prompts
from penstock.gateway.router import NOTHING_HELD, Router, Trip
from penstock.gateway.routing import Routing
from penstock.gateway.telemetry.records import Records

Id = tuple[str, str]
FRESH_S = 0.002
"""What was looked up for a request's admission serves for its first choice too."""


class Ways:
    """What all requests of a worker are routed by."""

    def __init__(self, endpoints: Endpoints, routing: Routing, prompts: Prompts, records: Records) -> None:
        self.endpoints, self.routing, self.prompts = endpoints, routing, prompts
        self.explained: Explained = records.explained
        self._recordings = records.recordings

    def of(self, call: Call, key: Id) -> Plain | Routed:
        """The way of a request whose service is known, and whose prompt has been prepared; it keeps the one that it has."""
        if call.way is None:
            router = self.routing.routers.get(key)
            if router is None or call.service is None:
                call.way = Plain(self, call)
            else:
                hashes = router.has_choice or self._recordings.is_active
                call.way = Routed(self, router, call, self.prompts.of(call, call.service, hashes=hashes))
        return call.way


class Plain:
    """For a service without a profile: nothing but requests under way counts, and the gateway's endpoints count those."""

    __slots__ = ("_call", "_ways")

    def __init__(self, ways: Ways, call: Call) -> None:
        self._ways, self._call = ways, call

    def choose(self, service: ServiceRoute, tried: frozenset[str], now: float) -> Route | None:
        """`service` may be a view of one of its revisions; an endpoint in `tried` is not met again."""
        ends, call = self._ways.endpoints, self._call
        if not ends.circuits and not service.split_by:
            chosen = route(service, call.id, ends.in_flight, exclude=tried)
        else:
            session = session_of(call, service) if service.split_by else ""
            chosen = route(service, call.id, ends.in_flight, ends.set_aside(), tried, ends.weights(), session)
        if chosen is not None and call.reading.explains:
            self._ways.explained.chosen_plainly(call, chosen)
        return chosen

    def sent(self, name: str, now: float) -> None:
        """It goes there."""
        if self._call.reading.explains:
            self._ways.explained.sent(self._call, name, None, now)

    def kept(self, now: float) -> None:
        """It is on the wire."""

    def began(self, now: float) -> None:
        """The first of a stream's tokens came."""

    def ended(self, now: float) -> None:
        """This attempt is over."""


class Routed:
    """By a router. Of several attempts the last one counts; each is ended before the next is sent."""

    __slots__ = ("_call", "_held", "_held_at", "_router", "_trip", "_ways", "prompt")

    def __init__(self, ways: Ways, router: Router, call: Call, prompt: Prompt) -> None:
        self._ways, self._router, self._call = ways, router, call
        self.prompt = prompt
        self._held, self._held_at = NOTHING_HELD, float("-inf")
        self._trip: Trip | None = None

    def expected(self, now: float) -> Mapping[str, float]:
        """How many tokens of the prompt endpoints are expected to hold, by name; as last seen, if that was just now."""
        if now - self._held_at > FRESH_S:
            self._held, self._held_at = self._router.held(self.prompt, now), now
        return self._held

    def choose(self, service: ServiceRoute, tried: frozenset[str], now: float) -> Route | None:
        """`service` may be a view of one of its revisions; an endpoint in `tried` is not met again."""
        router, ends, prompt = self._router, self._ways.endpoints, self.prompt
        held = self.expected(now)
        if ends.circuits or router.is_weighed or service.split_by:
            router.weigh(ends.weights())
            avoid, session = ends.set_aside(), session_of(self._call, service) if service.split_by else ""
        else:
            avoid, session = (), ""
        chosen = router.route(service, prompt, held, avoid, tried, session)
        if chosen is not None:
            self._ways.explained.chosen(
                self._call, service, router, prompt, held, chosen, now, avoid, tried, session
            )
        return chosen

    def sent(self, name: str, now: float) -> None:
        """It goes there."""
        self._trip = self._router.sent(name, self.prompt, self._held, now)
        self._ways.explained.sent(self._call, name, self._trip, now)

    def kept(self, now: float) -> None:
        """It is on the wire: what its prompt leaves there may be noted now."""
        if self._trip is not None:
            self._router.kept(self._trip, now)

    def began(self, now: float) -> None:
        """The first of a stream's tokens came."""
        trip = self._trip
        if trip is not None:
            trip.streams = True
            self._router.began(trip, now)
        if self._call.turn is not None:
            self._call.turn.began()

    def ended(self, now: float) -> None:
        """This attempt is over; of one without an answer the engine told nothing."""
        trip, self._trip = self._trip, None
        if trip is None:
            return
        call = self._call
        if call.prompt_tokens > 0:
            self._ways.prompts.answered(call, trip.cached_tokens)
            self._router.began(trip, now)
        self._router.ended(trip, now, call.prompt_tokens, call.cached_tokens, call.completion_tokens)
