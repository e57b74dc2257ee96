"""What happens to one request: admitted or not, and where to."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exchange import Endpoint, RevisionRoute, ServiceRoute
from penstock.decide.admission import admit_request
from penstock.decide.revision_share import has_endpoint
from penstock.decide.routing import route


def endpoint(name: str, slots: int = 0) -> Endpoint:
    return Endpoint(name=name, address="127.0.0.2", port=8080, node="n", slots=slots)


def service(phase: str = "Ready", message: str = "", **revisions: tuple[int, list[Endpoint]]) -> ServiceRoute:
    return ServiceRoute(
        namespace="default",
        name="iris",
        uid="u",
        engine_model="iris",
        phase=phase,
        message=message,
        wakes="stopped" not in message,
        revisions=tuple(
            RevisionRoute(name=n, weight_percent=w, endpoints=tuple(e)) for n, (w, e) in revisions.items()
        ),
    )


def test_the_endpoint_with_the_fewest_requests_is_taken_and_the_runner_up_named() -> None:
    one = service(a=(100, [endpoint("x"), endpoint("y"), endpoint("z")]))
    chosen = route(one, "id", {"x": 2, "y": 1, "z": 3})
    assert chosen
    assert (chosen.endpoint.name, chosen.runner_up) == ("y", "x")
    assert "1 in flight" in chosen.reason


def test_full_endpoints_come_last_and_those_set_aside_after_healthy_ones() -> None:
    one = service(a=(100, [endpoint("x", slots=1), endpoint("y", slots=9)]))
    assert route(one, "id", {"x": 1, "y": 5}).endpoint.name == "y"
    assert route(one, "id", {"x": 0, "y": 5}, avoid={"x"}).endpoint.name == "y"
    assert "all set aside" in route(one, "id", {}, avoid={"x", "y"}).reason
    assert route(one, "id", {}, exclude={"x", "y"}) is None


def test_shares_of_revisions_come_out_as_wished_and_a_revision_without_pods_gives_its_share_away() -> None:
    split = service(a=(20, [endpoint("x")]), b=(80, [endpoint("y")]))
    counts = Counter(route(split, f"id-{i}", {}).revision for i in range(4000))
    assert 0.17 < counts["a"] / 4000 < 0.23
    empty = service(a=(20, []), b=(80, [endpoint("y")]), c=(0, [endpoint("z")]))
    assert {route(empty, f"id-{i}", {}).revision for i in range(50)} == {"b"}


def test_a_revision_that_is_all_set_aside_gives_its_share_to_healthy_ones_and_stands_in_only_for_want_of_them() -> (
    None
):
    split = service(a=(50, [endpoint("x"), endpoint("y")]), b=(30, [endpoint("z")]), c=(20, [endpoint("w")]))
    ids = [f"id-{i}" for i in range(2000)]
    counts = Counter(route(split, i, {}, avoid={"x", "y"}).revision for i in ids)
    assert set(counts) == {"b", "c"}
    assert 0.55 < counts["b"] / 2000 < 0.65, "30 to 20, as wished"
    assert {route(split, i, {}, avoid={"x"}).endpoint.name for i in ids} == {"y", "z", "w"}
    left = {route(split, i, {}, avoid={"x", "y"}, exclude={"z", "w"}).endpoint.name for i in ids}
    assert left == {"x", "y"}, "better one that failed lately than none"
    canary = service(a=(100, [endpoint("x")]), b=(0, [endpoint("y")]))
    assert route(canary, "id", {}, avoid={"x"}).endpoint.name == "x", "no share, no requests"


@given(st.sets(st.sampled_from("xyzw")), st.sets(st.sampled_from("xyzw")), st.text(max_size=8))
def test_what_is_set_aside_is_taken_only_when_nothing_else_is_left_and_what_is_excluded_never(
    avoid: set[str], exclude: set[str], request_id: str
) -> None:
    names = {"a": "xy", "b": "z", "c": "w"}
    split = service(**{r: (33, [endpoint(n) for n in ns]) for r, ns in names.items()})
    chosen = route(split, request_id, {}, avoid, exclude)
    left = set("xyzw") - exclude
    if not left:
        assert chosen is None
        return
    assert chosen
    assert chosen.endpoint.name in (left - avoid or left)
    assert chosen.endpoint.name in names[chosen.revision]
    assert ("all set aside" in chosen.reason) == (not left - avoid)


@given(st.text(max_size=20), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 5)))
def test_the_same_request_in_the_same_state_goes_to_the_same_endpoint(
    request_id: str, load: dict[str, int]
) -> None:
    one = service(a=(50, [endpoint("x"), endpoint("y")]), b=(50, [endpoint("z")]))
    assert route(one, request_id, load) == route(one, request_id, load)


@given(st.lists(st.tuples(st.sampled_from([0, 0, 30, 100]), st.integers(0, 2)), max_size=3))
def test_there_is_an_endpoint_exactly_where_one_is_chosen(shares: list[tuple[int, int]]) -> None:
    named = {
        f"r{i}": (w, [endpoint(f"{i}-{n}") for n in range(count)]) for i, (w, count) in enumerate(shares)
    }
    one = service(**named)
    assert has_endpoint(one) == (route(one, "id", {}) is not None)


def test_an_endpoint_that_starts_slowly_gets_its_share_and_no_more_unless_it_is_alone() -> None:
    one = service(a=(100, [endpoint("warm"), endpoint("cold")]))
    counts = Counter(
        route(one, f"id-{i}", {"warm": 3}, weights={"cold": 0.2}).endpoint.name for i in range(3000)
    )
    assert 0.16 < counts["cold"] / 3000 < 0.24, "though it has fewer requests in flight"
    alone = [route(one, f"id-{i}", {}, exclude={"warm"}, weights={"cold": 0.1}) for i in range(20)]
    assert {chosen.endpoint.name for chosen in alone} == {"cold"}
    both = [route(one, f"id-{i}", {}, weights={"cold": 0.1, "warm": 0.1}).endpoint.name for i in range(300)]
    assert 90 < both.count("cold") < 210, "equals are equal"


def test_equals_share_evenly_and_the_runner_up_is_another_one() -> None:
    one = service(a=(100, [endpoint(n) for n in "wxyz"]))
    chosen = [route(one, f"id-{i}", {}) for i in range(4000)]
    counts = Counter(c.endpoint.name for c in chosen)
    assert all(850 < counts[name] < 1150 for name in "wxyz")
    assert all(c.runner_up and c.runner_up != c.endpoint.name for c in chosen)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6), st.text(max_size=5))
def test_none_with_a_free_slot_and_fewer_requests_is_passed_over(
    state: list[tuple[int, int]], request_id: str
) -> None:
    pool = [endpoint(f"e{i}", slots) for i, (slots, _) in enumerate(state)]
    load = {f"e{i}": n for i, (_, n) in enumerate(state)}

    def rank(one: Endpoint) -> tuple[bool, int]:
        return bool(one.slots) and load[one.name] >= one.slots, load[one.name]

    chosen = route(service(a=(100, pool)), request_id, load)
    assert chosen
    assert rank(chosen.endpoint) == min(map(rank, pool))
    others = sorted(rank(e) for e in pool if e is not chosen.endpoint)
    assert not others or rank(next(e for e in pool if e.name == chosen.runner_up)) == others[0]
    assert chosen.in_flight == load[chosen.endpoint.name]


LIMITS = {"in_flight": 0, "max_in_flight": 10, "waiting": 0, "max_waiting": 5}


@pytest.mark.parametrize(
    ("phase", "message", "has_endpoint", "limits", "outcome"),
    [
        ("Ready", "", True, {}, "run"),
        ("Ready", "", True, {"in_flight": 10}, "gateway_full"),
        ("Starting", "its pods are starting", False, {}, "wait"),
        ("Starting", "", False, {"waiting": 5}, "queue_full"),
        ("Failed", "no such folder", False, {}, "failed"),
        ("Failed", "the new revision fails, the old one serves", True, {}, "run"),
        ("Sleeping", "the service is stopped", False, {}, "stopped"),
        ("Sleeping", "it sleeps until it is asked for", False, {}, "wait"),
        ("Sleeping", "it sleeps until it is asked for", False, {"waiting": 5}, "queue_full"),
    ],
)
def test_admission(
    phase: str, message: str, has_endpoint: bool, limits: dict[str, int], outcome: str
) -> None:
    answer = admit_request(service(phase, message), has_endpoint=has_endpoint, **{**LIMITS, **limits})
    assert answer.outcome == outcome
    if outcome in ("failed", "stopped"):
        assert message in answer.message
    assert (answer.retry_after_s > 0) == (outcome not in ("run", "wait"))


SESSIONS = [f"default/iris user-{number}" for number in range(2000)]


def home_of(session: str, *shares: int, order: str = "ab", gone: str = "") -> str:
    """The revision of a session, by shares in percent; `gone` has no endpoint."""
    known = service(
        **{
            name: (share, [] if name == gone else [endpoint(f"{name}1")])
            for name, share in zip(order, shares, strict=True)
        }
    )
    chosen = route(known, "any id", {}, session=session)
    assert chosen
    return chosen.revision


@pytest.mark.parametrize("order", ["ab", "ba"])
@given(before=st.integers(0, 100), growth=st.integers(0, 100), session=st.sampled_from(SESSIONS))
def test_who_is_on_a_canary_stays_there_when_its_share_grows(
    order: str, before: int, growth: int, session: str
) -> None:
    after = min(100, before + growth)

    def shares(canary: int) -> tuple[int, int]:
        return (canary, 100 - canary) if order == "ab" else (100 - canary, canary)

    if home_of(session, *shares(before), order=order) == "a":
        assert home_of(session, *shares(after), order=order) == "a"


def test_sessions_are_shared_out_as_the_traffic_is_and_stay_whatever_the_request() -> None:
    homes = [home_of(session, 30, 70) for session in SESSIONS]
    assert homes.count("a") == pytest.approx(600, abs=80)
    two = service(a=(30, [endpoint("a1")]), b=(70, [endpoint("b1")]))
    seen = {route(two, f"id-{number}", {}, session=SESSIONS[0]) for number in range(50)}
    assert len({chosen.revision for chosen in seen if chosen}) == 1


def test_when_a_revision_has_no_endpoint_only_its_own_sessions_move() -> None:
    for session in SESSIONS[:300]:
        home = home_of(session, 30, 30, 40, order="abc")
        other = home_of(session, 30, 30, 40, order="abc", gone="b")
        assert other == home if home != "b" else other in "ac"
