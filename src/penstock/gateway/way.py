"""How one request finds its endpoint, and what it counts for there until it is over: by its service's router, or by fewest requests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from penstock.contracts.exchange import ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.decide.routing import Route, route
from penstock.gateway.call import Call, session_of
from penstock.gateway.disaggregated import Elsewhere, Message
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.explained import Explained
from penstock.gateway.prompts import Prompts
from penstock.gateway.router import NOTHING_HELD, Router, Trip
from penstock.gateway.routing import Routing
from penstock.gateway.telemetry.records import Records
from penstock.kit.hashing import draw

Id = tuple[str, str]
SAMPLED = 8
FRESH_S = 0.002
"""What was looked up for a request's admission serves for its first choice too."""


class Ways:
    """What all requests of a worker are routed by."""

    def __init__(self, endpoints: Endpoints, routing: Routing, prompts: Prompts, records: Records) -> None:
        self.endpoints, self.routing, self.prompts = endpoints, routing, prompts
        self.explained: Explained = records.explained
        self._recordings = records.recordings

    def aside(self, key: Id) -> Collection[str]:
        """Endpoints that get no requests now: those that fail, and those that are being warmed."""
        failing, prewarm = self.endpoints.set_aside(), self.routing.prewarms.get(key)
        return {*failing, *prewarm.warming} if prewarm is not None and prewarm.warming else failing

    def of(self, call: Call, key: Id) -> Plain | Routed:
        """The way of a request whose service is known, and whose prompt has been prepared; it keeps the one that it has."""
        way = call.way
        if not isinstance(way, (Plain, Routed)):
            router = self.routing.routers.get(key)
            if router is None or call.service is None:
                way = Plain(self, call)
            else:
                is_told = router.has_choice or call.reading.explains or self._recordings.is_active
                hashes = is_told or _is_sampled(call, router)
                prompt = self.prompts.of(call, call.service, hashes=hashes)
                way = Routed(self, key, router, call, prompt, is_told=is_told)
            call.way = way
        return way


def _is_sampled(call: Call, router: Router) -> bool:
    """Where one endpoint is all there is, some prompts are looked at, so that a second one can be given what they have in common."""
    routing = router.service.routing
    return routing is not None and routing.prewarm_prefixes > 0 and draw(call.id) % SAMPLED == 0


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

    def compute_elsewhere(
        self, content: bytes, message: Message, done: Callable[[bytes], None], left_s: float
    ) -> Elsewhere | None:
        """No endpoint has a role of its own."""
        return None

    def kept(self, content: bytes, now: float) -> None:
        """It is on the wire."""

    def began(self, now: float) -> None:
        """The first of a stream's tokens came."""

    def ended(self, now: float) -> None:
        """This attempt is over."""


class Routed:
    """By a router. Of several attempts the last one counts; each is ended before the next is sent.

    What was chosen is told (`is_told`) where there was a choice, or somebody wants to know.
    """

    __slots__ = (
        "_call",
        "_held",
        "_held_at",
        "_is_told",
        "_key",
        "_prewarm",
        "_router",
        "_trip",
        "_ways",
        "prompt",
    )

    def __init__(
        self, ways: Ways, key: Id, router: Router, call: Call, prompt: Prompt, *, is_told: bool
    ) -> None:
        self._ways, self._key, self._router, self._call = ways, key, router, call
        self._is_told = is_told
        self._prewarm = ways.routing.prewarms.get(key)
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
        warming = self._prewarm.warming if self._prewarm is not None else ()
        avoid: Collection[str] = ()
        session = ""
        if ends.circuits or router.is_weighed or service.split_by or warming:
            router.weigh(ends.weights())
            avoid = self._ways.aside(self._key)
            session = session_of(self._call, service) if service.split_by else ""
        chosen = router.route(service, prompt, held, avoid, tried, session)
        if chosen is not None and self._is_told:
            self._ways.explained.chosen(
                self._call, service, router, prompt, held, chosen, now, avoid, tried, session
            )
        return chosen

    def sent(self, name: str, now: float) -> None:
        """It goes there."""
        self._trip = self._router.sent(name, self.prompt, self._held, now)
        if self._is_told:
            self._ways.explained.sent(self._call, name, self._trip, now)

    def compute_elsewhere(
        self, content: bytes, message: Message, done: Callable[[bytes], None], left_s: float
    ) -> Elsewhere | None:
        """Where that is worth it, the prompt of a first attempt is computed by an endpoint that does nothing else.

        `content` goes to the engine; `message` makes a request of a body; `done` is told later, once, what is to be sent instead of it.
        """
        trip, call = self._trip, self._call
        if trip is None or not self._router.prefill or call.attempts != 1:
            return None
        found = self._ways.routing.disaggregated.get(self._key)
        if found is None:
            return None
        return found.compute(
            trip, self._held, self._path(), content, message=message, done=done, timeout_s=left_s
        )

    def _path(self) -> str:
        call = self._call
        return call.target.path if call.asked is None else call.asked.path

    def kept(self, content: bytes, now: float) -> None:
        """It is on the wire, with this content: what its prompt leaves there may be noted now."""
        trip = self._trip
        if trip is None:
            return
        self._router.kept(trip, now)
        prewarm = self._prewarm
        if trip.shared_blocks and prewarm is not None:
            prewarm.saw(self.prompt, trip.shared_blocks, self._path(), content, self._router.index)

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
