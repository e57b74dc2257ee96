"""What the gateway learns of endpoints from the requests it sends there, in virtual time."""

from __future__ import annotations

import time
import timeit

from penstock.contracts.exchange import Endpoint, RevisionRoute, RouteTable, ServiceRoute
from penstock.decide.breaker import FAILURES_IN_A_ROW, OPEN_FIRST_S, SLOW_PER_OPEN, SLOW_START_S
from penstock.decide.routing import route
from penstock.gateway.endpoints import Endpoints
from penstock.testing.clock import HandClock


def service(*names: str, name: str = "iris") -> ServiceRoute:
    pods = tuple(Endpoint(name=n, address="127.0.0.2", port=8080) for n in names)
    revision = RevisionRoute(name="r", weight_percent=100, endpoints=pods)
    return ServiceRoute(namespace="d", name=name, uid="u", engine_model=name, revisions=(revision,))


def table(*services: ServiceRoute) -> RouteTable:
    return RouteTable(version=1, services=services)


def world(*names: str) -> tuple[Endpoints, HandClock]:
    clock = HandClock(1000.0)
    endpoints = Endpoints(clock)
    endpoints.keep(table(service(*names)))
    return endpoints, clock


def send(endpoints: Endpoints, name: str, *, fails: bool) -> None:
    endpoints.begin(name)
    if fails:
        endpoints.failed(name)
    else:
        endpoints.answered(name)
    endpoints.end(name)


def test_one_that_fails_is_set_aside_then_probed_by_one_request_and_comes_back_slowly() -> None:
    endpoints, clock = world("x", "y")
    for _ in range(FAILURES_IN_A_ROW):
        send(endpoints, "x", fails=True)
    assert set(endpoints.set_aside()) == {"x"}
    assert endpoints.states() == {"x": "open", "y": "closed"}
    clock.at += OPEN_FIRST_S
    assert not endpoints.set_aside(), "it may be probed"
    endpoints.begin("x")
    assert set(endpoints.set_aside()) == {"x"}, "by one request"
    endpoints.answered("x")
    endpoints.end("x")
    assert not endpoints.set_aside()
    assert endpoints.weights() == {"x": 0.1}
    clock.at += SLOW_PER_OPEN * OPEN_FIRST_S / 2
    assert endpoints.weights() == {"x": 0.5}
    clock.at += SLOW_PER_OPEN * OPEN_FIRST_S / 2
    assert not endpoints.weights()
    assert endpoints.openings == {"x": 1}


def test_a_probe_whose_caller_goes_away_leaves_room_for_the_next() -> None:
    endpoints, clock = world("x", "y")
    endpoints.failed("x", "not_sent")
    clock.at += OPEN_FIRST_S
    endpoints.begin("x")
    assert endpoints.set_aside()
    endpoints.end("x")
    assert not endpoints.set_aside()


def test_a_probe_that_fails_sets_it_aside_twice_as_long() -> None:
    endpoints, clock = world("x", "y")
    endpoints.failed("x", "not_sent")
    clock.at += OPEN_FIRST_S
    send(endpoints, "x", fails=True)
    clock.at += 2 * OPEN_FIRST_S - 0.01
    assert endpoints.set_aside()
    clock.at += 0.02
    assert not endpoints.set_aside()


def test_the_endpoints_of_other_services_do_not_count_and_the_last_one_stays() -> None:
    endpoints, _ = world("x")
    endpoints.keep(table(service("x"), service("a", "b", "c", name="other")))
    for _ in range(20):
        endpoints.failed("x", "not_sent")
        for name in "abc":
            endpoints.failed(name, "not_sent")
    assert set(endpoints.set_aside()) == {"a", "b"}


def test_a_new_endpoint_starts_slowly_beside_others_and_at_once_where_it_is_the_first() -> None:
    endpoints, clock = world("x")
    assert not endpoints.weights(), "a gateway that starts finds what has been serving"
    endpoints.keep(table(service("x", "y"), service("first", name="other")))
    assert set(endpoints.weights()) == {"y"}
    clock.at += SLOW_START_S
    assert not endpoints.weights()


def test_what_is_gone_from_the_table_is_forgotten() -> None:
    endpoints, _ = world("x", "y")
    endpoints.failed("x", "not_sent")
    endpoints.begin("x")
    endpoints.keep(table(service("y")))
    endpoints.end("x")
    assert not endpoints.set_aside()
    assert endpoints.states() == {"y": "closed"}
    assert not endpoints.openings
    assert not endpoints.in_flight
    endpoints.keep(table(service("x", "y")))
    assert not endpoints.set_aside(), "of the same name, but another"


def test_a_late_failure_of_an_endpoint_that_is_gone_leaves_nothing_behind() -> None:
    endpoints, _ = world("x", "y")
    endpoints.keep(table(service("y")))
    endpoints.failed("x", "not_sent")
    endpoints.answered("x")
    assert not endpoints.set_aside()
    assert not endpoints.openings


def test_an_outage_of_one_of_two_costs_a_handful_of_requests_and_its_return_loses_none() -> None:
    endpoints, clock = world("x", "y")
    one, lost, served_by_x = service("x", "y"), 0, 0
    for number in range(6000):
        clock.at += 0.01
        dead = 10 < clock.at - 1000.0 < 20
        chosen = route(
            one, f"id-{number}", endpoints.in_flight, endpoints.set_aside(), weights=endpoints.weights()
        )
        assert chosen
        failing = dead and chosen.endpoint.name == "x"
        send(endpoints, chosen.endpoint.name, fails=failing)
        lost += failing
        served_by_x += chosen.endpoint.name == "x" and clock.at - 1000.0 > 55
    assert FAILURES_IN_A_ROW <= lost <= FAILURES_IN_A_ROW + 6, "those in a row, then one probe each"
    assert 190 < served_by_x < 310, "half of the last five seconds"


def test_a_request_costs_two_microseconds_of_bookkeeping_or_less() -> None:
    endpoints, _ = world("x", "y")

    def request() -> None:
        endpoints.set_aside()
        endpoints.weights()
        endpoints.begin("x")
        endpoints.answered("x")
        endpoints.end("x")

    best = min(timeit.repeat(request, timer=time.thread_time, number=2000, repeat=7)) / 2000
    assert best < 10e-6, f"{best * 1e6:.2f} us, five times what it took when this was written"
