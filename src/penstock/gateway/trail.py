"""What is remembered of one request's way while it is under way: the choices that were made, where it was sent, and why."""

from __future__ import annotations

from typing import Literal

from penstock.contracts.scheduling import Prompt
from penstock.decide.route_reason import RouteReason, route_reason
from penstock.decide.routing import Route
from penstock.gateway.profiles import Profiles
from penstock.gateway.route_record import Explanation
from penstock.gateway.router import Trip


class Trail:
    """`choice` is the last one, made but perhaps not followed: the route, the most tokens that some endpoint was expected to hold, and why.

    The rest is of the attempt that was sent last. `steps` are all attempts: endpoint, revision, monotonic time. `profile` is what routes
    it, `reason` why it was sent there, in a word; "" where it was sent nowhere.
    `trial` is that of a profile, where one goes on, and `is_tried` whether this request is part of what is tried. `predicted_s` is when its first token was to come, by what was learned of that endpoint; 0 while too little was.
    """

    __slots__ = (
        "choice",
        "explanation",
        "is_tried",
        "most_held",
        "predicted_s",
        "profile",
        "prompt",
        "reason",
        "route",
        "steps",
        "trial",
        "trip",
    )

    def __init__(self, prompt: Prompt | None, profiles: Profiles | None) -> None:
        self.prompt = prompt
        self.profile, self.is_tried = "", False
        self.trial = profiles.trial if profiles is not None else None
        if profiles is not None and prompt is not None:
            self.profile = profiles.name(prompt)
            self.is_tried = self.trial is not None and profiles.tries(prompt)
        self.choice: tuple[Route, float, Explanation | None] | None = None
        self.route: Route | None = None
        self.trip: Trip | None = None
        self.most_held = self.predicted_s = 0.0
        self.reason: RouteReason | Literal[""] = ""
        self.steps: tuple[tuple[str, str, float], ...] = ()
        self.explanation: Explanation | None = None

    def follow(self, name: str, trip: Trip | None, now: float) -> None:
        """It is sent to this endpoint: by the last choice, or, on a fresh connection, once more where it was."""
        choice = self.choice
        if choice is not None and choice[0].endpoint.name == name:
            self.route, self.most_held, self.explanation = choice
        route = self.route
        if route is not None:
            self.steps += ((name, route.revision, now),)
            self.reason = route_reason(
                attempt=len(self.steps),
                all_avoided=route.all_avoided,
                considered=route.ready,
                cached_tokens=route.cached_tokens,
                most_cached_tokens=self.most_held,
            )
        self.trip = trip
        if trip is not None and trip.load.is_measured:
            load = trip.load
            self.predicted_s = load.prefill_s + load.prefill_token_s * (trip.ahead_tokens + trip.own_tokens)
