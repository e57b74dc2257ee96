"""What the Gateway API Inference Extension and llm-d say in headers and metadata, and how a request's endpoints are picked.

docs/proposals/004-endpoint-picker-protocol of the extension: the endpoints go back in order of preference, the same in a header and in
dynamic metadata; a subset that the data plane names is all there is to pick from; after the answer's head it says which one served.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from penstock.contracts.exchange import Endpoint, ServiceRoute
from penstock.decide.routing import Route
from penstock.gateway.wire.message import Head, Headers
from penstock.kit.errors import Unavailable

DESTINATION = "x-gateway-destination-endpoint"
SUBSET = "x-gateway-destination-endpoint-subset"
SERVED = "x-gateway-destination-endpoint-served"
LB = "envoy.lb"
SUBSET_HINT = "envoy.lb.subset_hint"
RETRY_S = 1.0

Metadata = Mapping[str, Mapping[str, Any]]
"""By namespace."""
Choose = Callable[[ServiceRoute, frozenset[str], float], Route | None]
"""The endpoint for a request now, of those of a service that are not named."""


class Manner(NamedTuple):
    """How this picker picks. `only` is the namespace and name of the one service that all requests are for; None: the model that they name says it.

    `fallbacks` is how many endpoints are told beside the first.
    """

    only: tuple[str, str] | None
    fallbacks: int


def subset_of(head: Head, metadata: Metadata) -> Collection[str] | None:
    """The endpoints (`address:port`) that the data plane leaves, None where it leaves all. Its metadata counts before a header."""
    told = metadata.get(SUBSET_HINT, {}).get(SUBSET)
    if isinstance(told, list):
        return frozenset(one for one in told if isinstance(one, str))
    if not isinstance(told, str):
        told = head.header(SUBSET.encode()).decode("latin-1")
        if not told:
            return None
    return frozenset(part.strip() for part in told.split(",") if part.strip())


def served_of(metadata: Metadata) -> str:
    """The endpoint that served, "" where the data plane does not say."""
    told = metadata.get(LB, {}).get(SERVED, "")
    return told if isinstance(told, str) else ""


def address_of(endpoint: Endpoint) -> str:
    """As the protocol has it."""
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return f"{host}:{endpoint.port}"


def told(routes: Sequence[Route]) -> tuple[Headers, Mapping[str, Mapping[str, str]]]:
    """The header and the dynamic metadata that say where the request goes."""
    value = ",".join(address_of(route.endpoint) for route in routes)
    return [(DESTINATION.encode(), value.encode())], {LB: {DESTINATION: value}}


def pick(
    service: ServiceRoute, choose: Choose, subset: Collection[str] | None, fallbacks: int, now: float
) -> tuple[Route, ...]:
    """Where it goes, and where instead, best first: 1 + `fallbacks` at most. Raises Unavailable where no endpoint is left."""
    outside = _outside(service, subset)
    tried, found = outside, list[Route]()
    while len(found) <= fallbacks:
        route = choose(service, tried, now)
        if route is None:
            break
        found.append(route)
        tried |= {route.endpoint.name}
    if not found:
        name = f"{service.namespace}/{service.name}"
        reason = "none of the subset is ready" if subset is not None else "none is ready"
        raise Unavailable(
            f"{name} has no endpoint for this request: {reason}",
            code="no_endpoint",
            hint="send the request again later",
            retry_after_s=RETRY_S,
        )
    if len(found) > 1:
        choose(service, outside, now)  # what is explained of a request is its last choice: again the first
    return tuple(found)


def _outside(service: ServiceRoute, only: Collection[str] | None) -> frozenset[str]:
    """The names of the endpoints that are not in the subset."""
    if only is None:
        return frozenset()
    endpoints = (endpoint for revision in service.revisions for endpoint in revision.endpoints)
    return frozenset(endpoint.name for endpoint in endpoints if address_of(endpoint) not in only)
