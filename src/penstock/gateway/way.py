"""How one request finds its endpoint, and what it counts for there until it is over: by its service's router, or by fewest requests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from math import inf

from msgspec import Struct

from penstock.contracts.exchange import ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.decide.routing import Route, route
from penstock.gateway.call import Call, session_of
from penstock.gateway.disaggregated import Elsewhere, Message
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.prompts import Prompts
from penstock.gateway.router import NOTHING_HELD, Router, Trip
from penstock.gateway.routing import Routing
from penstock.gateway.telemetry.records import Records
from penstock.gateway.waiting_line import Ask
from penstock.gateway.waiting_room import WaitingRoom

Id = tuple[str, str]
SAMPLED = 8
FRESH_S = 0.002
"""What was looked up for a request's admission serves for its first choice too."""


class Ways:
    """What all requests of a worker are routed by. `seen` is how many of them routers have met."""

    def __init__(self, endpoints: Endpoints, routing: Routing, prompts: Prompts, records: Records) -> None:
        self.endpoints, self.routing, self.prompts = endpoints, routing, prompts
        self.explained, self.recordings = records.explained, records.recordings
        self.seen = 0

    def aside(self, key: Id) -> Collection[str]:
        """Endpoints that get no requests now: those that fail, and those that are being warmed."""
        failing, prewarm = self.endpoints.set_aside(), self.routing.prewarms.get(key)
        return {*failing, *prewarm.warming} if prewarm is not None and prewarm.warming else failing

    def of(self, call: Call, service: ServiceRoute) -> Way | None:
        """The way of a request whose prompt has been prepared; it keeps the one that it has. None where its service has no router."""
        way: Way | None = call.way
        if way is not None:
            return way
        key = (service.namespace, service.name)
        router = self.routing.routers.get(key)
        if router is None:
            return None
        self.seen += 1
        is_told = bool(router.has_choice or call.reading.explains or self.recordings.active)
        looks = is_told or (router.warms and self.seen % SAMPLED == 0)
        prompt = self.prompts.of(call, service) if looks else self.prompts.sized(call, service)
        way = call.way = Way(self, key, router, call, prompt, is_told, bool(router.prefill))
        return way

    def choose(self, call: Call, service: ServiceRoute, tried: frozenset[str], now: float) -> Route | None:
        """`service` may be a view of one of its revisions; an endpoint in `tried` is not met again."""
        way: Way | None = call.way
        if way is not None:
            return way.choose(service, tried, now)
        ends = self.endpoints
        if not ends.circuits and not service.split_by:
            chosen = route(service, call.id, ends.in_flight, exclude=tried)
        else:
            session = session_of(call, service) if service.split_by else ""
            chosen = route(service, call.id, ends.in_flight, ends.set_aside(), tried, ends.weights(), session)
        if chosen is not None and call.reading.explains:
            self.explained.chosen_plainly(call, chosen)
        return chosen


class Way(Struct, eq=False):
    """By a router. Of several attempts the last one counts; each is ended before the next is sent.

    Where one endpoint is all there is, a prompt is only measured, unless somebody wants to know of it (`is_told`), or it is one of those that
    a second endpoint would be warmed with. `goes_apart`: some of the service's endpoints only compute prompts. `held` is how many tokens of
    the prompt endpoints were expected to hold at `held_at`, and `trip` is the attempt under way.
    """

    ways: Ways
    key: Id
    router: Router
    call: Call
    prompt: Prompt
    is_told: bool
    goes_apart: bool
    held: Mapping[str, float] = NOTHING_HELD
    held_at: float = -inf
    trip: Trip | None = None

    def expected(self, now: float) -> Mapping[str, float]:
        """How many tokens of the prompt endpoints are expected to hold, by name; as last seen, if that was just now."""
        if self.prompt.hashes and now - self.held_at > FRESH_S:
            self.held, self.held_at = self.router.held(self.prompt, now), now
        return self.held

    def ask(self, room: WaitingRoom, now: float) -> Ask:
        """What it asks of its service's endpoints."""
        held = self.expected(now) if self.prompt.hashes else NOTHING_HELD
        return room.ask(self.prompt, held, len(self.call.request.body))

    def choose(self, service: ServiceRoute, tried: frozenset[str], now: float) -> Route | None:
        """As `Ways.choose`."""
        router, ends = self.router, self.ways.endpoints
        if router.has_choice:
            if not self.is_told:
                self._look(service)
        elif not (self.is_told or tried or ends.circuits) and service is router.service:
            only = router.only
            if only is not None:
                revision, endpoint = only
                return Route(endpoint, revision, router.loads[endpoint.name].in_flight, 1)
        return self._weigh(service, tried, now)

    def _look(self, service: ServiceRoute) -> None:
        """There were no two endpoints when it came, and now there are."""
        self.prompt, self.is_told = self.ways.prompts.of(self.call, service), True

    def _weigh(self, service: ServiceRoute, tried: frozenset[str], now: float) -> Route | None:
        router, ways = self.router, self.ways
        held, prewarm = self.expected(now), ways.routing.prewarms.get(self.key)
        avoid: Collection[str] = ()
        session = ""
        if (
            ways.endpoints.circuits
            or router.is_weighed
            or service.split_by
            or (prewarm is not None and prewarm.warming)
        ):
            router.weigh(ways.endpoints.weights())
            avoid = ways.aside(self.key)
            session = session_of(self.call, service) if service.split_by else ""
        chosen = router.route(service, self.prompt, held, now, avoid, tried, session)
        if chosen is not None and self.is_told:
            ways.explained.chosen(
                self.call, service, router, self.prompt, held, chosen, now, avoid, tried, session
            )
        return chosen

    def sent(self, name: str, now: float) -> None:
        """It goes there."""
        self.trip = self.router.sent(name, self.prompt, self.held, now)
        if self.is_told:
            self.ways.explained.sent(self.call, name, self.trip, now)

    def compute_elsewhere(
        self, content: bytes, message: Message, done: Callable[[bytes], None], left_s: float
    ) -> Elsewhere | None:
        """Where that is worth it, the prompt of a first attempt is computed by an endpoint that does nothing else.

        `content` goes to the engine; `message` makes a request of a body; `done` is told later, once, what is to be sent instead of it.
        """
        trip, call = self.trip, self.call
        if trip is None or call.attempts != 1:
            return None
        found = self.ways.routing.disaggregated.get(self.key)
        if found is None:
            return None
        elsewhere = found.compute(
            trip, self.held, self._path(), content, message=message, done=done, timeout_s=left_s
        )
        if call.trail is not None:
            call.trail.elsewhere = elsewhere
        return elsewhere

    def _path(self) -> str:
        call = self.call
        return call.target.path if call.asked is None else call.asked.path

    def kept(self, content: bytes, now: float) -> None:
        """It is on the wire, with this content: what its prompt leaves there may be noted now."""
        trip = self.trip
        if trip is None:
            return
        self.router.kept(trip, now)
        if trip.shared_blocks:
            prewarm = self.ways.routing.prewarms.get(self.key)
            if prewarm is not None:
                prewarm.saw(self.prompt, trip.shared_blocks, self._path(), content, self.router.index)

    def began(self, now: float) -> None:
        """The first of a stream's tokens came."""
        trip = self.trip
        if trip is not None:
            trip.streams = True
            self.router.began(trip, now)
        if self.call.turn is not None:
            self.call.turn.began()

    def ended(self, now: float) -> None:
        """This attempt is over; of one without an answer the engine told nothing."""
        trip, self.trip = self.trip, None
        if trip is None:
            return
        call = self.call
        if call.prompt_tokens > 0:
            self.ways.prompts.answered(call, trip.cached_tokens)
        self.router.ended(trip, now, call.prompt_tokens, call.cached_tokens, call.completion_tokens)
