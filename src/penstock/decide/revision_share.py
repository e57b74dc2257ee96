"""Which revision serves this request?

One is drawn by weight from a hash of the request's id. Endpoints in `avoid` (their circuits are open) are left only where there is no
other in any revision: a revision that has only such gives its share to the others.

A session has one point among the shares, laid end to end: it stays with a revision as long as shares do not change, and when the share of
one of two grows, those who are there stay there. Where the revision of its point has no endpoint, it has another point among the others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from penstock.contracts.exchange import Endpoint, RevisionRoute, ServiceRoute
from penstock.kit.hashing import DRAWS, draw

Share = tuple[RevisionRoute, Sequence[Endpoint]]


class Drawn(NamedTuple):
    """The revision, those of its endpoints that may be asked (at least one), and whether all of them are set aside."""

    revision: RevisionRoute
    endpoints: Sequence[Endpoint]
    all_avoided: bool


def has_endpoint(service: ServiceRoute) -> bool:
    """Whether there is any to choose from."""
    for revision in service.revisions:  # noqa: SIM110  any() costs three times as much, on each request
        if revision.endpoints and revision.weight_percent > 0:
            return True
    return False


def drawn_revision(
    service: ServiceRoute,
    drawn: int,
    avoid: Collection[str] = (),
    exclude: Collection[str] = (),
    session: str = "",
) -> Drawn | None:
    """`drawn` is the request's number in [0, 2^64); `exclude` names endpoints that it must not meet again. None where none is left.

    `session` is what requests have in common that belong to one revision; "" for a request that stands by itself.
    """
    revisions = service.revisions
    if len(revisions) == 1 and not avoid and not exclude:
        only = revisions[0]
        return Drawn(only, only.endpoints, False) if only.endpoints and only.weight_percent > 0 else None
    usable = _without(exclude, [(r, r.endpoints) for r in revisions if r.weight_percent > 0])
    if not usable:
        return None
    healthy = _without(avoid, usable)
    left = healthy or usable
    revision, endpoints = _of_session(revisions, left, session) if session else _drawn(left, drawn)
    return Drawn(revision, endpoints, not healthy)


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
