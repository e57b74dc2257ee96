"""What a worker tells of demand: averages are exact whatever happens in between, and nothing is told twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exchange import (
    LATENCY_BOUNDS_S,
    Endpoint,
    EndpointDemand,
    RevisionRoute,
    RouteTable,
    ServiceRoute,
)
from penstock.gateway.demand import Demand, Queue, RevisionLoad

KEY = ("default", "m")


def ended(**told: Any) -> Any:
    """A call that came to its end."""
    given = {
        "prompt_tokens": -1,
        "cached_tokens": -1,
        "completion_tokens": -1,
        "streams": False,
        "endpoint": "e",
    }
    return SimpleNamespace(**{**given, "first_byte_at": 0.0, "last_byte_at": 0.0, **told})


def routes(**revisions: tuple[int, tuple[str, ...]]) -> dict[tuple[str, str], ServiceRoute]:
    made = tuple(
        RevisionRoute(
            name=name.replace("_", "-"),
            weight_percent=weight,
            endpoints=tuple(Endpoint(name=e, address="127.0.0.1", port=1) for e in endpoints),
        )
        for name, (weight, endpoints) in revisions.items()
    )
    return {KEY: ServiceRoute(namespace="default", name="m", uid="u", engine_model="m", revisions=made)}


def begin(demand: Demand, now: float) -> None:
    """As `State.begin` does."""
    load = demand.of(KEY)
    load.area_s -= now
    load.in_flight += 1
    load.requests += 1


def end(demand: Demand, now: float) -> None:
    load = demand.of(KEY)
    load.area_s += now
    load.in_flight -= 1


@given(
    spans=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)).map(sorted), max_size=20),
    cuts=st.lists(st.floats(0, 10), max_size=5).map(sorted),
)
def test_the_averages_of_all_windows_together_are_the_time_that_requests_took(
    spans: list[list[float]], cuts: list[float]
) -> None:
    demand, load = Demand(), RevisionLoad(0.0)
    demand.of(KEY).revisions["m-1"] = load
    events = sorted(
        [(s, 1, "begin") for s, _ in spans]
        + [(e, 2, "end") for _, e in spans]
        + [(c, 3, "cut") for c in [*cuts, 10.0]]
    )
    service_s = revision_s = 0.0
    requests, before = 0, 0.0
    for at, _, what in events:
        if what == "begin":
            begin(demand, at)
            load.begin(at, 0)
        elif what == "end":
            end(demand, at)
            load.end(ended(), at, 0.0, 0, False)
        elif at > before:
            for told in demand.report(at, at - before, routes(m_1=(100, ("e",))), {}, {}):
                service_s += told.in_flight * (at - before)
                requests += told.requests
                revision_s += sum(r.in_flight for r in told.revisions) * (at - before)
            before = at
    took_s = sum(e - s for s, e in spans)
    assert (service_s, revision_s, requests) == pytest.approx((took_s, took_s, len(spans)))
    assert demand.report(11.0, 1.0, {}, {}, {}) == ()


def test_who_waits_is_part_of_the_services_load_and_counts_as_one_request_even_across_reports() -> None:
    demand = Demand()
    demand.of(KEY).wait(0.0)
    first = demand.report(0.5, 0.5, routes(m_1=(100, ())), {KEY: Queue(0.5, frozenset())}, {})[0]
    assert (first.in_flight, first.waiting, first.wake, first.requests) == (1.0, 1, True, 1)
    assert first.queue_wait_s == 0.5
    demand.of(KEY).leave(1.0, runs=True, failed=False)
    begin(demand, 1.0)
    end(demand, 1.5)
    second = demand.report(2.5, 2.0, routes(m_1=(100, ("e",))), {}, {})[0]
    assert (second.in_flight, second.waiting, second.wake, second.requests) == (0.5, 0, False, 0)


def test_tokens_in_flight_are_those_of_the_prompt_and_those_generated_so_far() -> None:
    load = RevisionLoad(0.0)
    estimate = load.begin(0.0, 400)
    assert estimate == 100.0
    load.tokens += 50  # in a second
    first = load.take("m-1", 1.0, 1.0, {}, wanted=False)
    assert first.tokens_in_flight == 125.0, "100 at first, 150 at last"
    load.end(ended(), 2.0, estimate + 50, 400, False)
    assert load.take("m-1", 3.0, 2.0, {}, wanted=False).tokens_in_flight == 75.0, "150 for half of the time"
    assert load.is_idle


def test_the_estimate_of_a_prompt_learns_from_what_engines_count() -> None:
    load = RevisionLoad(0.0)
    for at in range(200):
        load.end(ended(prompt_tokens=1000), at, load.begin(at, 8000), 8000, False)
        if at % 10 == 0:
            load.take("m-1", at, 10.0, {}, wanted=False)
    assert load.begin(300.0, 8000) == pytest.approx(1000, rel=0.05)


def test_times_are_counted_by_bucket_and_only_where_there_were_any() -> None:
    load = RevisionLoad(0.0)
    load.begin(0.0, 0)
    load.first_byte(0.02)
    load.end(
        ended(streams=True, completion_tokens=11, first_byte_at=1.0, last_byte_at=2.0), 2.0, 0, 0, failed=True
    )
    told = load.take("m-1", 2.0, 2.0, {}, wanted=False)
    assert (told.requests, told.failures, sum(told.ttft), sum(told.itl)) == (1, 1, 1, 1)
    assert len(told.ttft) == len(LATENCY_BOUNDS_S) + 1
    assert LATENCY_BOUNDS_S[told.ttft.index(1) - 1] < 0.02 <= LATENCY_BOUNDS_S[told.ttft.index(1)]
    assert LATENCY_BOUNDS_S[told.itl.index(1) - 1] < 0.1 <= LATENCY_BOUNDS_S[told.itl.index(1)]
    load.begin(3.0, 0)
    again = load.take("m-1", 4.0, 1.0, {}, wanted=False)
    assert (again.ttft, again.itl, again.failures) == ((), (), 0)


def test_each_endpoint_says_what_it_does_now_and_what_its_cache_saved() -> None:
    demand = Demand()
    begin(demand, 0.0)
    load = demand.of(KEY).revision("m-1", 0.0)
    load.begin(0.0, 0)
    load.end(ended(prompt_tokens=100, cached_tokens=64, endpoint="a"), 1.0, 0, 0, False)
    load.begin(0.0, 0)
    table = routes(m_1=(100, ("a", "b")))
    demand.keep(RouteTable(version=1, services=tuple(table.values())), {})
    told = demand.report(1.0, 1.0, table, {}, {"b": 3, "other": 9})[0]
    assert told.revisions[0].endpoints == (
        EndpointDemand(name="a", cached_tokens=64),
        EndpointDemand(name="b", streams=3),
    )


def test_an_endpoint_that_has_left_the_table_is_told_of_until_its_last_stream_ends() -> None:
    demand, table = Demand(), routes(m_1=(100, ("a",)))
    without = tuple(routes(m_1=(100, ("b",))).values())
    demand.keep(RouteTable(version=1, services=tuple(table.values())), {})
    begin(demand, 0.0)
    demand.of(KEY).revision("m-1", 0.0).begin(0.0, 0)
    for version in (2, 3):
        demand.keep(RouteTable(version=version, services=without), {"a": 1})
        told = demand.report(version, 1.0, table, {}, {"a": 1})[0]
        assert told.revisions[0].endpoints == (EndpointDemand(name="a", streams=1),)
    demand.keep(RouteTable(version=4, services=without), {})
    assert demand.report(4.0, 1.0, table, {}, {"a": 1})[0].revisions[0].endpoints == ()


def test_a_revision_with_a_share_and_no_endpoint_is_wanted_as_soon_as_the_service_is_asked_for() -> None:
    demand = Demand()
    there = routes(new=(10, ()), old=(90, ("e",)), off=(0, ()))
    assert demand.report(1.0, 1.0, there, {}, {}) == ()
    begin(demand, 1.0)
    demand.of(KEY).revision("old", 1.0).begin(1.0, 0)
    told = demand.report(2.0, 1.0, there, {}, {})[0]
    assert [(r.name, r.wanted, r.in_flight) for r in told.revisions] == [
        ("new", True, 0.0),
        ("old", False, 1.0),
    ]
    asked = demand.report(3.0, 1.0, there, {KEY: Queue(0.1, frozenset({"off"}))}, {})[0]
    assert [(r.name, r.wanted) for r in asked.revisions] == [("new", True), ("off", True), ("old", False)]


def test_what_is_gone_is_forgotten_once_it_has_been_told() -> None:
    demand = Demand()
    begin(demand, 0.0)
    demand.of(KEY).revision("m-1", 0.0).begin(0.0, 0)
    demand.keep(RouteTable(version=1), {})
    assert demand.report(1.0, 1.0, {}, {}, {})[0].revisions[0].in_flight == 1.0
    demand.of(KEY).revisions["m-1"].end(ended(), 1.0, 0, 0, False)
    end(demand, 1.0)
    demand.keep(RouteTable(version=2), {})
    assert not demand.loads
