"""What is remembered of one request's way while it is under way: the choices that were made, where it was sent, and why."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from penstock.contracts.scheduling import Prompt
from penstock.decide.route_reason import route_reason
from penstock.decide.routing import Route
from penstock.gateway.profiles import Profiles
from penstock.gateway.route_record import Explanation
from penstock.gateway.router import Trip
from penstock.gateway.trial import Trial


class Elsewhere(Protocol):
    """A prompt that `endpoint` was to compute for another; `outcome` is what became of that, "" until something has."""

    endpoint: str
    outcome: str


class Trail(Struct):
    """`profile` routes it; `trial` is that of a profile, where one goes on, and `is_tried` whether this request is part of it.

    `next` is the last choice, which may not be followed, `next_held` the most tokens that some endpoint was expected to hold then, and
    `next_told` why, where somebody asked. `route`, `most_held`, `explanation` and `trip` are the same of the attempt that was sent last, and
    `reason` is why, in a word. `predicted_s` is when its first token was to come, by what was learned of that endpoint; 0 while too
    little was. `steps` are all attempts: endpoint, revision, monotonic time. `elsewhere` is the prompt's own way, where another endpoint was
    to compute it.
    """

    prompt: Prompt | None = None
    profile: str = ""
    trial: Trial | None = None
    is_tried: bool = False
    next: Route | None = None
    next_held: float = 0.0
    next_told: Explanation | None = None
    route: Route | None = None
    most_held: float = 0.0
    explanation: Explanation | None = None
    trip: Trip | None = None
    reason: str = ""
    predicted_s: float = 0.0
    steps: tuple[tuple[str, str, float], ...] = ()
    elsewhere: Elsewhere | None = None

    def follow(self, name: str, trip: Trip | None, now: float) -> None:
        """It is sent to this endpoint: by the last choice, or, on a fresh connection, once more where it was."""
        route = self.next
        if route is not None and route.endpoint.name == name:
            self.route, self.most_held, self.explanation = route, self.next_held, self.next_told
        else:
            route = self.route
        if route is None:
            return
        self.trip = trip
        self.steps += ((name, route.revision, now),)
        self.reason = route_reason(
            len(self.steps), route.all_avoided, route.ready, route.cached_tokens, self.most_held
        )
        if trip is not None and trip.load.is_measured:
            load = trip.load
            self.predicted_s = load.prefill_s + load.prefill_token_s * (trip.ahead_tokens + trip.own_tokens)


def trail_of(prompt: Prompt, profiles: Profiles) -> Trail:
    """A request with this prompt is about to be routed."""
    if profiles.trial is None:
        return Trail(prompt, profiles.routing.profile)
    return Trail(prompt, profiles.name(prompt), profiles.trial, profiles.tries(prompt))
