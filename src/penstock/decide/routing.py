"""Which endpoint serves this request?

A revision is drawn (`decide/revision_share.py`). Among its endpoints, a service with a routing profile has the one that its pipeline
chooses (`decide/choice.py`, `route_by_profile`), any other that with the fewest requests in flight, ties by the hash (`route`); there,
endpoints in `weights` start slowly: they take part in that share of the choices, unless no other endpoint is left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import repeat

from msgspec import Struct

from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Load, Pipeline, Prompt, View
from penstock.decide.choice import Reasons, choose, explain
from penstock.decide.prompt_class import class_of, class_route, pool_of
from penstock.decide.revision_share import Drawn, drawn_revision
from penstock.kit.hashing import DRAWS, draw

NO_WEIGHTS: Mapping[str, float] = {}
BUILT_IN = RoutingRoute()
_FULL = 1 << 32


class Route(Struct, frozen=True, gc=False):
    """The choice, what it rests on, and what would have been chosen instead ("" if nothing).

    A profile's choice has a `prompt_class`, the sum of scores (1 at most for each unit of weight), and the tokens of the prompt that the
    endpoint is expected to hold; what its runner-up is, `explain_route` says.
    """

    endpoint: Endpoint
    revision: str
    in_flight: int
    ready: int
    all_avoided: bool = False
    runner_up: str = ""
    prompt_class: str = ""
    score: float = 0.0
    cached_tokens: float = 0.0

    @property
    def reason(self) -> str:
        """For people; made only when somebody asks."""
        if self.prompt_class:
            return (
                f"{self.prompt_class} prompt, score {self.score:.3f}, best of {self.ready}, "
                f"{self.cached_tokens:.0f} tokens expected in its cache"
            ) + (", all set aside" if self.all_avoided else "")
        return f"{self.in_flight} in flight, least of {self.ready} ready" + (
            ", all set aside" if self.all_avoided else ""
        )


def route(
    service: ServiceRoute,
    request_id: str,
    in_flight: Mapping[str, int],
    avoid: Collection[str] = (),
    exclude: Collection[str] = (),
    weights: Mapping[str, float] = NO_WEIGHTS,
    session: str = "",
) -> Route | None:
    """`in_flight` counts requests by endpoint name; `exclude` names endpoints that this request must not meet again.

    `session` is what requests have in common that belong to one revision; "" for a request that stands by itself.
    """
    revisions = service.revisions
    if len(revisions) == 1 and not avoid and not exclude and revisions[0].weight_percent > 0:
        revision, pool = revisions[0], revisions[0].endpoints
        if len(pool) == 1:
            only = pool[0]
            return Route(only, revision.name, in_flight.get(only.name, 0), 1)
        if not pool:
            return None
        return _least(revision, pool, draw(request_id), in_flight, weights, all_avoided=False)
    drawn = draw(request_id)
    share = drawn_revision(service, drawn, avoid, exclude, session)
    if share is None:
        return None
    return _least(
        share.revision, share.endpoints, drawn >> 20, in_flight, weights, all_avoided=share.all_avoided
    )


def route_by_profile(
    service: ServiceRoute,
    prompt: Prompt,
    loads: Mapping[str, Load],
    cached: Mapping[str, float],
    pipeline: Pipeline,
    now: float,
    avoid: Collection[str] = (),
    exclude: Collection[str] = (),
    session: str = "",
) -> Route | None:
    """By `service.routing`, whose parts are open in `pipeline`; `loads` has every endpoint by name, `cached` those that hold any token; `now` is monotonic, in s."""
    if len(loads) == 1 and not exclude and not avoid and prompt.only is None:
        only = _only(service, prompt, loads, cached)
        if only is not None:
            return only
    share = drawn_revision(service, prompt.draw, avoid, exclude, session)
    if share is None:
        return None
    prompt_class, view = _view(service, prompt, share, loads, cached, now)
    choice = choose(prompt, view, pipeline)
    if choice is None:
        return None
    load = view.loads[choice.index]
    return Route(
        load.endpoint,
        share.revision.name,
        load.in_flight,
        choice.considered,
        share.all_avoided,
        "",
        prompt_class,
        choice.score,
        view.cached_tokens[choice.index],
    )


def _only(
    service: ServiceRoute, prompt: Prompt, loads: Mapping[str, Load], cached: Mapping[str, float]
) -> Route | None:
    """The endpoint of a service that has no other: no filter but one of the caller's own could leave it out. None if it gets no traffic."""
    only = only_endpoint(service)
    if only is None or only[1].name not in loads:
        return None
    revision, endpoint = only
    return Route(
        endpoint,
        revision,
        loads[endpoint.name].in_flight,
        1,
        prompt_class=class_of(prompt, cached.values(), (service.routing or BUILT_IN).prompt_token_threshold),
        cached_tokens=cached.get(endpoint.name, 0.0),
    )


def only_endpoint(service: ServiceRoute) -> tuple[str, Endpoint] | None:
    """The first endpoint that gets traffic, with its revision's name: of a service that has no other, the only one."""
    for revision in service.revisions:
        if revision.endpoints and revision.weight_percent > 0:
            return revision.name, revision.endpoints[0]
    return None


def explain_route(
    service: ServiceRoute,
    prompt: Prompt,
    loads: Mapping[str, Load],
    cached: Mapping[str, float],
    pipeline: Pipeline,
    now: float,
    avoid: Collection[str] = (),
    exclude: Collection[str] = (),
    session: str = "",
) -> Reasons | None:
    """What `route_by_profile` weighs for the same arguments; None where no revision has an endpoint left."""
    share = drawn_revision(service, prompt.draw, avoid, exclude, session)
    if share is None:
        return None
    return explain(prompt, _view(service, prompt, share, loads, cached, now)[1], pipeline)


def _view(
    service: ServiceRoute,
    prompt: Prompt,
    share: Drawn,
    loads: Mapping[str, Load],
    cached: Mapping[str, float],
    now: float,
) -> tuple[str, View]:
    """The prompt's class, and the endpoints of its pool in the drawn revision."""
    routing = service.routing or BUILT_IN
    prompt_class = class_of(prompt, cached.values(), routing.prompt_token_threshold)
    pool = pool_of(class_route(routing, prompt_class), share.endpoints)
    names = [one.name for one in pool]
    try:
        known = [*map(loads.__getitem__, names)]
    except KeyError:  # the route is older than what is known: some of its endpoints are gone
        names = [name for name in names if name in loads]
        known = [loads[name] for name in names]
    held = [*map(cached.get, names, repeat(0.0))] if cached else [0.0] * len(names)
    return prompt_class, View(known, held, now)


def _least(
    revision: RevisionRoute,
    pool: Sequence[Endpoint],
    drawn: int,
    in_flight: Mapping[str, int],
    weights: Mapping[str, float],
    *,
    all_avoided: bool,
) -> Route:
    """One pass that begins where the draw says, so that the first of equals is a different one for each request."""
    if weights:
        pool = _warm(pool, drawn, weights)
    count = len(pool)
    start = drawn % count
    best, runner_up, least, second = pool[start], "", -1, -1
    for endpoint in (*pool[start:], *pool[:start]) if start else pool:
        load = in_flight.get(endpoint.name, 0)
        if endpoint.slots and load >= endpoint.slots:
            load += _FULL
        if least < 0:
            least = load
        elif load < least:
            best, runner_up, least, second = endpoint, best.name, load, least
        elif second < 0 or load < second:
            runner_up, second = endpoint.name, load
    return Route(best, revision.name, least % _FULL, count, all_avoided, runner_up)


def _warm(pool: Sequence[Endpoint], drawn: int, weights: Mapping[str, float]) -> Sequence[Endpoint]:
    """Those that take part in this choice."""
    left = [e for e in pool if e.name not in weights or draw(f"{drawn}{e.name}") < weights[e.name] * DRAWS]
    return left or pool
