"""Does this request run, wait, or get refused?

Three moments ask. When it comes: `admit_request`, for whom there is no endpoint, and `takes_place`, whether there is room to wait for a turn
where there are endpoints, but none has room. While it waits: `held_back`, whether it may go now. When it must give up: `gave_up`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, NamedTuple

from penstock.contracts.exchange import FlowRoute, PromptClassRoute, ServiceRoute
from penstock.decide.prompt_class import lack_of_room
from penstock.decide.revision_share import has_endpoint as any_endpoint
from penstock.decide.saturation import Space

Outcome = Literal[
    "run",
    "wait",
    "queue_full",
    "gateway_full",
    "stopped",
    "failed",
    "priority_full",
    "priority_bytes_full",
    "displaced",
    "waited_too_long",
    "deadline_passed",
]
Hold = Literal["", "saturated", "kept_free", "class_full", "cold"]
"""Why a request waits, "" where it need not.

`saturated`: no endpoint of its pool has room. `kept_free`: what room there is, is kept for requests of priority 0 and above. `class_full`: its
class of prompts has as much in flight as it may. `cold`: it would drive what is asked for more out of the caches.
"""
DROPPED = MappingProxyType(
    {
        "queue_full": "rejected-saturated",
        "gateway_full": "rejected-saturated",
        "priority_full": "rejected-saturated",
        "priority_bytes_full": "rejected-saturated",
        "displaced": "rejected-saturated",
        "waited_too_long": "rejected-ttl-expired",
        "deadline_passed": "rejected-ttl-expired",
        "stopped": "rejected-no-endpoints",
        "failed": "rejected-no-endpoints",
        "not_ready_in_time": "rejected-no-endpoints",
        "not_placed_in_time": "rejected-no-endpoints",
        "not_downloaded_in_time": "rejected-no-endpoints",
        "not_loaded_in_time": "rejected-no-endpoints",
        "not_warm_in_time": "rejected-no-endpoints",
        "gateway_draining": "rejected-shutting-down",
    }
)
"""What llm-d's header x-llm-d-request-dropped-reason says of outcomes, those of the activator and of a gateway's end too; ours say more."""
RETRY_FULL_S = 1.0
RETRY_FAILED_S = 10.0
KEPT_FREE = 0.2
"""The share of a pool that priorities below 0 leave to whoever comes next."""


class Admission(NamedTuple):
    """`retry_after_s` is for refusals; `message` is for the caller."""

    outcome: Outcome
    message: str = ""
    retry_after_s: float = 0.0


RUN = Admission("run")


def runs_at_once(service: ServiceRoute, in_flight: int, max_in_flight: int) -> bool:
    """Whether `admit_request` would say so, whoever waits: the short way for most requests."""
    return in_flight < max_in_flight and any_endpoint(service)


def is_settled(service: ServiceRoute) -> bool:
    """Whether there is nothing to wait for: the service has an endpoint, or does not get one."""
    return (
        any_endpoint(service)
        or service.phase == "Failed"
        or (service.phase == "Sleeping" and not service.wakes)
    )


def admit_request(
    service: ServiceRoute,
    *,
    has_endpoint: bool,
    in_flight: int,
    max_in_flight: int,
    waiting: int,
    max_waiting: int,
) -> Admission:
    """`in_flight` counts this gateway's requests, `waiting` those that wait for this service."""
    if in_flight >= max_in_flight:
        return Admission(
            "gateway_full",
            f"the gateway has {in_flight} requests in flight, as many as it takes",
            RETRY_FULL_S,
        )
    if has_endpoint:
        return RUN
    name = f"{service.namespace}/{service.name}"
    if service.phase == "Failed":
        return Admission("failed", f"{name} cannot serve: {service.message}", RETRY_FAILED_S)
    if service.phase == "Sleeping" and not service.wakes:
        return Admission("stopped", f"{name} does not serve: {service.message}", RETRY_FAILED_S)
    if waiting >= max_waiting:
        return Admission("queue_full", f"{waiting} requests already wait for {name} to start", RETRY_FULL_S)
    return Admission("wait", service.message)


class Queued(NamedTuple):
    """What waits for a turn: requests and the bytes of their bodies, of one priority and of all."""

    requests: int
    size_bytes: int
    all_requests: int
    all_bytes: int


def takes_place(
    flow: FlowRoute, queued: Queued, body_bytes: int, *, max_waiting: int, outranks: bool
) -> Admission:
    """Whether one more may wait for its turn: `wait`, or why not; `displaced` says that it may, in the place of another that gives way.

    `max_waiting` bounds all priorities together, as `flow.max_bytes` does; `outranks` is whether somebody of a lower priority waits.
    """
    if queued.requests >= flow.max_requests:
        return Admission(
            "priority_full",
            f"{queued.requests} requests of this priority wait for an endpoint with room, as many as may",
            RETRY_FULL_S,
        )
    if queued.requests and queued.size_bytes + body_bytes > flow.max_bytes:
        return Admission(
            "priority_bytes_full",
            f"requests of this priority that wait for an endpoint with room hold {queued.size_bytes} bytes, of {flow.max_bytes} at most",
            RETRY_FULL_S,
        )
    if queued.all_requests < max_waiting and (
        not queued.all_requests or queued.all_bytes + body_bytes <= flow.max_bytes
    ):
        return Admission("wait")
    if outranks:
        return Admission(
            "displaced", "a request of a higher priority took the last place in the queue", RETRY_FULL_S
        )
    return Admission(
        "queue_full",
        f"{queued.all_requests} requests of this priority and above wait for an endpoint with room",
        RETRY_FULL_S,
    )


def held_back(
    priority: int,
    tokens: float,
    space: Space,
    held: PromptClassRoute,
    in_flight: tuple[int, float],
    *,
    lacks_budget: bool,
) -> Hold:
    """Why a request of `tokens` that its endpoint has to compute waits on, if it does.

    `space` is that of its class's pool, `held` are the class's limits and `in_flight` its requests and uncached tokens. `lacks_budget`: nobody
    holds its prompt, and what may be taken in of such is used up.
    """
    if space.requests < 1.0 or space.tokens <= 0.0:
        return "saturated"
    if priority < 0 and space.fullness > 1.0 - KEPT_FREE:
        return "kept_free"
    if (held.max_requests or held.max_tokens) and lack_of_room(held, *in_flight, tokens):
        return "class_full"
    return "cold" if lacks_budget else ""


def gave_up(name: str, hold: Hold, waited_s: float, *, is_callers: bool) -> Admission:
    """What one is told that has waited in vain for `waited_s`: its own deadline's time (`is_callers`), or the longest that any may."""
    why = {
        "": "its turn did not come",
        "saturated": "no endpoint had room",
        "kept_free": "the room that was left is kept for requests of priority 0 and above",
        "class_full": "prompts of its class had all that they may have in flight",
        "cold": "its prompt is in no cache, and would have driven out what is asked for more",
    }[hold]
    outcome: Outcome = "deadline_passed" if is_callers else "waited_too_long"
    return Admission(outcome, f"the request waited {waited_s:.3g} s for {name}: {why}", RETRY_FULL_S)
