"""The reasons for one choice, put together with what was known of each endpoint; and in one line, for a header."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.contracts.scheduling import Load
from penstock.decide.choice import Reasons, Weighed
from penstock.decide.routing import Route
from penstock.gateway.route_record import Candidate, Explanation
from penstock.gateway.router import Router
from penstock.gateway.trail import Trail

MAX_CANDIDATES = 256
"""Endpoints that one explanation tells of."""
ELSEWHERE = "pool"


def explanation(router: Router, held: Mapping[str, float], reasons: Reasons) -> Explanation:
    """At the moment of the choice: loads change with the request that is sent."""
    weighed = {one.endpoint: one for one in reasons.weighed}
    removed = {name: step.filter for step in reasons.removed if not step.overruled for name in step.endpoints}
    order = [*weighed, *(name for name in router.loads if name not in weighed)]
    told = [
        _candidate(router, router.loads[name], held, weighed.get(name), removed.get(name, ELSEWHERE))
        for name in order[:MAX_CANDIDATES]
        if name in router.loads
    ]
    return Explanation(
        weights=reasons.weights,
        removed=reasons.removed,
        candidates=tuple(told),
        left_out=len(order) - len(told),
    )


def _candidate(
    router: Router, load: Load, held: Mapping[str, float], weighed: Weighed | None, removed_by: str
) -> Candidate:
    name = load.endpoint.name
    known = router.index.knowledge(name)
    return Candidate(
        endpoint=name,
        revision=load.revision,
        score=weighed.score if weighed else 0.0,
        terms=weighed.terms if weighed else {},
        removed_by="" if weighed else removed_by,
        held_tokens=held.get(name, 0.0),
        confidence=known.trust.confidence if known else 0.0,
        is_precise=known is not None and known.is_precise,
        in_flight=load.in_flight,
        prefilling=load.prefilling,
        uncached_tokens=load.uncached_tokens,
        context_tokens=load.context_tokens,
        waiting=load.waiting,
        running=load.running,
        kv_use=load.kv_use,
        prefill_s=load.prefill_s,
        prefill_token_s=load.prefill_token_s,
        decode_s=load.decode_s,
        is_measured=load.is_measured,
    )


def runner_up(route: Route, told: Explanation | None) -> str:
    """The best of those that were not chosen; "" where there is none, or nobody asked."""
    if told is None:
        return route.runner_up
    chosen = route.endpoint.name
    return next(
        (one.endpoint for one in told.candidates if not one.removed_by and one.endpoint != chosen), ""
    )


def header(trail: Trail) -> bytes:
    """The line `x-penstock-route` with its end: names and numbers, apart by semicolons."""
    route = trail.route
    if route is None:
        return b""
    other = runner_up(route, trail.explanation)
    parts = [f"endpoint={route.endpoint.name}", f"revision={route.revision}"]
    if trail.prompt is not None:
        parts += [
            f"profile={trail.profile or 'built-in'}",
            f"class={route.prompt_class}",
            f"cached={route.cached_tokens:.0f}/{trail.prompt.tokens}",
            f"score={route.score:.4g}",
        ]
    parts += [f"in-flight={route.in_flight}", f"of={route.ready}"]
    if other:
        parts.append(f"runner-up={other}")
    return f"x-penstock-route: {'; '.join(parts)}\r\n".encode("ascii", "replace")
