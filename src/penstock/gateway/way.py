"""How one request finds its endpoint, and what it counts for there until it is over: by its service's router, or by fewest requests."""

from __future__ import annotations

from penstock.contracts.exchange import ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.decide.routing import Route, route
from penstock.gateway.call import Call, session_of
from penstock.gateway.endpoints import Endpoints
from penstock.gateway.prompts import Prompts
from penstock.gateway.router import NOTHING_HELD, Router, Trip


class Plain:
    """For a service without a profile: nothing but requests under way counts, and the gateway's endpoints count those."""

    __slots__ = ("_call", "_endpoints")

    def __init__(self, endpoints: Endpoints, call: Call) -> None:
        self._endpoints, self._call = endpoints, call

    def choose(self, service: ServiceRoute, tried: frozenset[str], now: float) -> Route | None:
        """`service` may be a view of one of its revisions; an endpoint in `tried` is not met again."""
        ends, call = self._endpoints, self._call
        if not ends.circuits and not service.split_by:
            return route(service, call.id, ends.in_flight, exclude=tried)
        session = session_of(call, service) if service.split_by else ""
        return route(service, call.id, ends.in_flight, ends.set_aside(), tried, ends.weights(), session)

    def sent(self, name: str, now: float) -> None:
        """It goes there."""

    def kept(self, now: float) -> None:
        """It is on the wire."""

    def began(self, now: float) -> None:
        """The first of a stream's tokens came."""

    def ended(self, now: float) -> None:
        """This attempt is over."""


class Routed:
    """By a router. Of several attempts the last one counts; each is ended before the next is sent."""

    __slots__ = ("_call", "_endpoints", "_held", "_prompts", "_router", "_trip", "prompt")

    def __init__(
        self, router: Router, endpoints: Endpoints, prompts: Prompts, call: Call, prompt: Prompt
    ) -> None:
        self._router, self._endpoints, self._prompts, self._call = router, endpoints, prompts, call
        self.prompt = prompt
        self._held = NOTHING_HELD
        self._trip: Trip | None = None

    def choose(self, service: ServiceRoute, tried: frozenset[str], now: float) -> Route | None:
        """`service` may be a view of one of its revisions; an endpoint in `tried` is not met again."""
        router, ends = self._router, self._endpoints
        held = self._held = router.held(self.prompt, now)
        if not (ends.circuits or router.is_weighed or service.split_by):
            return router.route(service, self.prompt, held, exclude=tried)
        router.weigh(ends.weights())
        session = session_of(self._call, service) if service.split_by else ""
        return router.route(service, self.prompt, held, ends.set_aside(), tried, session)

    def sent(self, name: str, now: float) -> None:
        """It goes there."""
        self._trip = self._router.sent(name, self.prompt, self._held, now)

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

    def ended(self, now: float) -> None:
        """This attempt is over; of one without an answer the engine told nothing."""
        trip, self._trip = self._trip, None
        if trip is None:
            return
        call = self._call
        if call.prompt_tokens > 0:
            self._prompts.answered(call)
            self._router.began(trip, now)
        self._router.ended(trip, now, call.prompt_tokens, call.cached_tokens, call.completion_tokens)
