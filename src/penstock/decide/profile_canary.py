"""Does a service's own routing profile route this request, or the one that is being tried?

A share of requests is routed by the candidate. A session is all of one profile: moved to and fro, a conversation would be in the caches of
neither's choosing. It is drawn by a hash of the service with the session, or with the request where it has none, apart from the draw of
revisions; when the share grows, those who are in it stay in it.
"""

from __future__ import annotations

from penstock.contracts.exchange import RoutingRoute
from penstock.contracts.scheduling import Prompt
from penstock.kit.hashing import DRAWS, draw, seeded_draw


def is_tried(routing: RoutingRoute, prompt: Prompt, service: str) -> bool:
    """Whether the candidate of `routing` routes it; `service` is `namespace/name`."""
    if routing.candidate is None:
        return False
    point = seeded_draw(prompt.session or str(prompt.draw), draw(service)) / DRAWS
    return point * 100 < routing.candidate_percent
