"""Which endpoint serves this request?

A revision is drawn by weight from a hash of the request's id; among its ready endpoints the one with the fewest requests in
flight is taken, ties by hash. Endpoints in `avoid` (they are set aside) are taken only when no other is left in any
revision: a revision that has only such gives its share to the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from penstock.contracts.exchange import Endpoint, RevisionRoute, ServiceRoute
from penstock.kit.hashing import tie_break

Share = tuple[RevisionRoute, Sequence[Endpoint]]


class Route(NamedTuple):
    """The choice, why, and what would have been chosen instead ("" if nothing)."""

    endpoint: Endpoint
    revision: str
    reason: str
    runner_up: str = ""


def has_endpoint(service: ServiceRoute) -> bool:
    """Whether `route` has anything to choose from."""
    return any(revision.endpoints and revision.weight_percent > 0 for revision in service.revisions)


def route(
    service: ServiceRoute,
    request_id: str,
    in_flight: Mapping[str, int],
    avoid: Collection[str] = (),
    exclude: Collection[str] = (),
) -> Route | None:
    """`in_flight` counts requests by endpoint name; `exclude` names endpoints that this request must not meet again."""
    usable = _without(exclude, [(r, r.endpoints) for r in service.revisions if r.weight_percent > 0])
    if not usable:
        return None
    healthy = _without(avoid, usable)
    order = tie_break(request_id)
    revision, pool = _drawn(healthy or usable, order(service.uid))
    ranked = sorted(pool, key=lambda e: (_full(e, in_flight), in_flight.get(e.name, 0), order(e.name)))
    best = ranked[0]
    reason = f"{in_flight.get(best.name, 0)} in flight, least of {len(pool)} ready" + (
        "" if healthy else ", all set aside"
    )
    return Route(best, revision.name, reason, ranked[1].name if len(ranked) > 1 else "")


def _without(names: Collection[str], shares: list[Share]) -> list[Share]:
    """The revisions that have other endpoints than these, with the others only."""
    if not names:
        return [share for share in shares if share[1]]
    left = ((revision, [e for e in endpoints if e.name not in names]) for revision, endpoints in shares)
    return [share for share in left if share[1]]


def _full(endpoint: Endpoint, in_flight: Mapping[str, int]) -> bool:
    return bool(endpoint.slots) and in_flight.get(endpoint.name, 0) >= endpoint.slots


def _drawn(usable: list[Share], draw: int) -> Share:
    """Shares of revisions without an endpoint fall to the others in proportion."""
    if len(usable) == 1:
        return usable[0]
    point = draw % sum(revision.weight_percent for revision, _ in usable)
    for entry in usable:
        point -= entry[0].weight_percent
        if point < 0:
            return entry
    return usable[-1]
