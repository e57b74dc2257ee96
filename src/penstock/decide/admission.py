"""Does this request run, wait, or get refused?"""

from __future__ import annotations

from typing import Literal, NamedTuple

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.revision_share import has_endpoint as any_endpoint

Outcome = Literal["run", "wait", "queue_full", "gateway_full", "stopped", "failed"]
RETRY_FULL_S = 1.0
RETRY_FAILED_S = 10.0


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
