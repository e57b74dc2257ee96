"""Which endpoint serves this request?

A revision is drawn by weight from a hash of the request's id; among its ready endpoints the one with the fewest requests in
flight is taken, ties by the hash. Endpoints in `avoid` (their circuits are open) are taken only when no other is left in any
revision: a revision that has only such gives its share to the others. Those in `weights` start slowly: they take part in that
share of the choices, unless no other endpoint is left.

A session has one point among the shares, laid end to end: it stays with a revision as long as shares do not change, and when the share of
one of two grows, those who are there stay there. Where the revision of its point has no endpoint, it has another point among the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from penstock.contracts.exchange import Endpoint, RevisionRoute, ServiceRoute
from penstock.kit.hashing import DRAWS, draw

Share = tuple[RevisionRoute, Sequence[Endpoint]]
NO_WEIGHTS: Mapping[str, float] = {}
_FULL = 1 << 32


class Route(Struct, frozen=True, gc=False):
    """The choice, what it rests on, and what would have been chosen instead ("" if nothing)."""

    endpoint: Endpoint
    revision: str
    in_flight: int
    ready: int
    all_avoided: bool = False
    runner_up: str = ""

    @property
    def reason(self) -> str:
        """For people; made only when somebody asks."""
        return f"{self.in_flight} in flight, least of {self.ready} ready" + (
            ", all set aside" if self.all_avoided else ""
        )


def has_endpoint(service: ServiceRoute) -> bool:
    """Whether `route` has anything to choose from."""
    for revision in service.revisions:  # noqa: SIM110  any() costs three times as much, on each request
        if revision.endpoints and revision.weight_percent > 0:
            return True
    return False


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
    usable = _without(exclude, [(r, r.endpoints) for r in revisions if r.weight_percent > 0])
    if not usable:
        return None
    healthy = _without(avoid, usable)
    drawn = draw(request_id)
    if session:
        revision, left = _of_session(revisions, healthy or usable, session)
    else:
        revision, left = _drawn(healthy or usable, drawn)
    return _least(revision, left, drawn >> 20, in_flight, weights, all_avoided=not healthy)


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


def _without(names: Collection[str], shares: list[Share]) -> list[Share]:
    """The revisions that have other endpoints than these, with the others only."""
    if not names:
        return [share for share in shares if share[1]]
    left = ((revision, [e for e in endpoints if e.name not in names]) for revision, endpoints in shares)
    return [share for share in left if share[1]]


def _drawn(usable: list[Share], drawn: int) -> Share:
    """Shares of revisions without an endpoint fall to the others in proportion."""
    if len(usable) == 1:
        return usable[0]
    point = drawn % sum(revision.weight_percent for revision, _ in usable)
    for entry in usable:
        point -= entry[0].weight_percent
        if point < 0:
            return entry
    return usable[-1]


def _of_session(revisions: Sequence[RevisionRoute], usable: list[Share], session: str) -> Share:
    """By its point among all shares; if nothing can be used there, by another among those that can."""
    point = draw(session) / DRAWS * sum(revision.weight_percent for revision in revisions)
    for revision in revisions:
        point -= revision.weight_percent
        if point < 0:
            for share in usable:
                if share[0] is revision:
                    return share
            break
    return _drawn(usable, draw(f"{session} again"))
