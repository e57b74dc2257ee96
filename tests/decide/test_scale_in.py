"""Which replicas go, and when may they end?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.scale_in import SETTLE_S, Replica, plan_scale_in

NOW = 1000.0
LIMIT_S = 600.0


def pod(
    name: str, streams: int = 0, cache: float = 0.0, *, since: float | None = None, ready: bool = True
) -> Replica:
    return Replica(name, ready, streams, cache, since)


def replicas() -> st.SearchStrategy[list[Replica]]:
    one = st.builds(
        Replica,
        name=st.text("abcdef", min_size=1, max_size=6),
        ready=st.booleans(),
        streams=st.integers(0, 5),
        cache_value=st.floats(0, 1e6),
        draining_since=st.none() | st.floats(0, NOW),
    )
    return st.lists(one, max_size=8, unique_by=lambda replica: replica.name)


def test_growth_goes_through_and_keeps_everyone_who_was_set_aside() -> None:
    plan = plan_scale_in([pod("a"), pod("b", since=NOW - 1)], 3, NOW, LIMIT_S)
    assert (plan.size, plan.keep, plan.leave, plan.drain) == (3, ("b",), (), ())


def test_the_replica_with_the_fewest_streams_is_set_aside_before_it_goes() -> None:
    plan = plan_scale_in([pod("a", 3), pod("b", 1), pod("c", 2)], 2, NOW, LIMIT_S)
    assert (plan.size, plan.drain, plan.leave) == (3, ("b",), ())
    assert plan.again_s == 1.0
    assert plan.reasons == ("b goes: 1 streams, 0 tokens of its cache used lately",)


def test_of_equally_busy_replicas_the_one_with_the_least_valuable_cache_goes() -> None:
    plan = plan_scale_in([pod("a", 0, 500), pod("b", 0, 20), pod("c", 0, 90)], 2, NOW, LIMIT_S)
    assert plan.drain == ("b",)


def test_a_replica_ends_with_its_last_stream_and_not_before_the_gateways_have_spoken() -> None:
    early = plan_scale_in([pod("a"), pod("b", 0, since=NOW - SETTLE_S / 2)], 1, NOW, LIMIT_S)
    busy = plan_scale_in([pod("a"), pod("b", 1, since=NOW - 60)], 1, NOW, LIMIT_S)
    done = plan_scale_in([pod("a"), pod("b", 0, since=NOW - SETTLE_S)], 1, NOW, LIMIT_S)
    assert (early.leave, busy.leave, done.leave) == ((), (), ("b",))
    assert (early.size, busy.size, done.size) == (2, 2, 1)


def test_at_the_limit_a_replica_ends_with_its_streams() -> None:
    plan = plan_scale_in([pod("a"), pod("b", 2, since=NOW - LIMIT_S)], 1, NOW, LIMIT_S)
    assert plan.leave == ("b",)


def test_what_is_not_ready_goes_first_and_at_once() -> None:
    plan = plan_scale_in([pod("a", 0), pod("b", 0, ready=False), pod("c", 4)], 2, NOW, LIMIT_S)
    assert (plan.size, plan.leave, plan.drain) == (2, ("b",), ())


def test_when_demand_comes_back_the_busiest_of_those_set_aside_stays() -> None:
    plan = plan_scale_in([pod("a"), pod("b", 1, since=NOW - 5), pod("c", 3, since=NOW - 5)], 2, NOW, LIMIT_S)
    assert plan.keep == ("c",)


@given(replicas(), st.integers(0, 10))
def test_the_size_is_never_below_what_is_desired_and_whoever_goes_is_known(
    seen: list[Replica], desired: int
) -> None:
    plan = plan_scale_in(seen, desired, NOW, LIMIT_S)
    names = {replica.name for replica in seen}
    assert plan.size >= desired
    assert {*plan.leave, *plan.drain, *plan.keep} <= names
    assert not set(plan.leave) & {*plan.drain, *plan.keep}


@given(replicas(), st.integers(0, 10))
def test_no_stream_is_cut_before_the_limit(seen: list[Replica], desired: int) -> None:
    plan = plan_scale_in(seen, desired, NOW, limit_s=NOW + 1)
    by_name = {replica.name: replica for replica in seen}
    assert all(not by_name[name].ready or not by_name[name].streams for name in plan.leave)


@given(replicas(), st.integers(0, 10))
def test_in_the_end_exactly_the_desired_number_is_left(seen: list[Replica], desired: int) -> None:
    """Everyone who must go is set aside; with time and no streams the plan reaches its aim."""
    left = [Replica(r.name, r.ready, 0, r.cache_value, r.draining_since) for r in seen]
    for step in range(3):
        now = NOW + 10 * step
        plan = plan_scale_in(left, desired, now, LIMIT_S)
        left = [
            Replica(
                r.name,
                r.ready,
                0,
                r.cache_value,
                now if r.name in plan.drain else None if r.name in plan.keep else r.draining_since,
            )
            for r in left
            if r.name not in plan.leave
        ]
    assert len(left) == min(len(seen), desired)
    assert all(replica.draining_since is None for replica in left)
