"""Lets a request run, wait for a first endpoint or for its turn, or be refused; whatever protocol it came in."""

from __future__ import annotations

from penstock.contracts.exchange import ServiceRoute
from penstock.decide.admission import Admission, admit_request
from penstock.decide.priority import Rank
from penstock.decide.prompt_class import BATCH
from penstock.decide.retry_after import retry_after_s, spread_s
from penstock.decide.revision_share import has_endpoint
from penstock.gateway.activator import MAX_WAITING
from penstock.gateway.call import Call
from penstock.gateway.state import State
from penstock.gateway.waiting_line import Ask
from penstock.kit.eager import in_a_task
from penstock.kit.errors import Exhausted, Unavailable


def turn_at_once(call: Call, service: ServiceRoute, state: State, now: float) -> bool:
    """Whether a request may go now, as far as its service's endpoints have room; it has its turn then."""
    room = state.rooms.of(service)
    if room is None:
        return True
    way = state.ways.of(call, service)
    assert way is not None, "who has a room has a router"
    ask = way.ask(room, now)
    call.turn = room.turn_at_once(ask, now, lambda: _rank(ask, call, service, state))
    return call.turn is not None


async def admit(
    service: ServiceRoute,
    request_id: str,
    state: State,
    *,
    within_s: float | None = None,
    call: Call | None = None,
) -> ServiceRoute:
    """The service as it is once it can run the request, for which it waits `within_s` at most.

    With `call`, also for the request's turn, where all endpoints are full. Raises Exhausted, Unavailable, and NotFound if it goes meanwhile.
    """
    began = state.clock.monotonic()
    while True:
        service = await _endpoint(service, request_id, state, _left(within_s, began, state))
        if call is None or turn_at_once(call, service, state, state.clock.monotonic()):
            return service
        await in_a_task()
        service = await _turn(call, service, state, _left(within_s, began, state))
        if has_endpoint(service):
            return service
        _give_back(call)


async def _turn(call: Call, service: ServiceRoute, state: State, within_s: float | None) -> ServiceRoute:
    """The service as it is when it is the request's turn."""
    room = state.rooms.of(service)
    if room is not None:
        way = state.ways.of(call, service)
        assert way is not None, "who has a room has a router"
        ask = way.ask(room, state.clock.monotonic())
        rank = _rank(ask, call, service, state)
        call.turn = await state.rooms.turn(room, service, ask, rank, call.id, within_s)
    return state.names.present(service)


def _give_back(call: Call) -> None:
    turn, call.turn = call.turn, None
    if turn is not None:
        turn.ended()


def _rank(ask: Ask, call: Call, service: ServiceRoute, state: State) -> Rank:
    return state.rooms.rank(call, service, is_batch=ask.prompt_class == BATCH)


def _left(within_s: float | None, began: float, state: State) -> float | None:
    return None if within_s is None else max(0.0, within_s - (state.clock.monotonic() - began))


async def _endpoint(
    service: ServiceRoute, request_id: str, state: State, within_s: float | None
) -> ServiceRoute:
    """The service once it has an endpoint."""
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
