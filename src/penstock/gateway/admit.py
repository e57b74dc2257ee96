"""Lets a request run, wait for a first endpoint, or be refused; whatever protocol it came in."""

from __future__ import annotations

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.admission import Admission, admit_request
from penstock.decide.retry_after import retry_after_s, spread_s
from penstock.decide.revision_share import has_endpoint
from penstock.gateway.activator import MAX_WAITING
from penstock.gateway.state import State
from penstock.kit.eager import in_a_task
from penstock.kit.errors import Exhausted, Unavailable


async def admit(
    service: ServiceRoute, request_id: str, state: State, *, within_s: float | None = None
) -> ServiceRoute:
    """The service as it is once it can run the request, for which it waits `within_s` at most.

    Raises Exhausted, Unavailable, and NotFound if it goes meanwhile.
    """
    key = (service.namespace, service.name)
    admission = _judge(service, state)
    if admission.outcome == "wait":
        await in_a_task()  # others may have come first meanwhile
        admission = _judge(service, state)
    if admission.outcome == "wait":
        hold_s = service.hold_s if within_s is None else min(service.hold_s, within_s)
        try:
            service = await state.activator.wait(service, hold_s)
        except Unavailable as error:
            error.retry_after_s = spread_s(error.retry_after_s or 0.0, request_id)
            raise
        admission = _judge(service, state, has_place=True)
    if admission.outcome != "run":
        kind = Exhausted if admission.outcome in ("queue_full", "gateway_full") else Unavailable
        drain_per_s = state.pace.drain_per_s(key, state.clock.monotonic())
        waiting = state.activator.waiting_for(key)
        unknown_s = admission.retry_after_s
        if admission.outcome == "queue_full":
            unknown_s = state.activator.start_left_s(service)
        wait_s = retry_after_s(waiting, drain_per_s, request_id, unknown_s=unknown_s)
        raise kind(admission.message, code=admission.outcome, retry_after_s=wait_s)
    return service


def _judge(service: ServiceRoute, state: State, *, has_place: bool = False) -> Admission:
    """`has_place`: for a request that waits already, and keeps its place however full the gateway is."""
    return admit_request(
        service,
        has_endpoint=has_endpoint(service),
        in_flight=0 if has_place else state.total_in_flight,
        max_in_flight=state.max_in_flight,
        waiting=0 if has_place else state.activator.waiting_for((service.namespace, service.name)),
        max_waiting=MAX_WAITING,
    )
