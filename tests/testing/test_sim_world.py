from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import Scripted, profile, requests, world

from penstock.kit.errors import Internal
from penstock.testing.sim.engine import Request
from penstock.testing.sim.policy import policy_of
from penstock.testing.sim.recorder import ANSWERED, DOES_NOT_FIT, HELD_TOO_LONG
from penstock.testing.sim.world import FIRST_TICK_S

START_S = 10.0


def test_a_request_at_zero_is_held_until_a_replica_is_ready_and_wakes_the_law_at_once() -> None:
    law = Scripted(lambda seen: 1 if seen.in_flight else 0)
    played = world(lambda _: law, initial=0)
    seen = played.run(requests(31.3))
    assert [observed.now for observed in law.seen if observed.poked] == [31.3]
    assert seen.outcomes == {ANSWERED: 1}
    assert seen.held_s[0] == pytest.approx(START_S)


def test_a_sleeping_law_is_not_asked() -> None:
    law = Scripted(lambda seen: 1 if seen.in_flight else 0)
    world(lambda _: law, initial=0, end_s=86_400.0).run(requests(40_000.0))
    assert len(law.seen) < 20


def test_idle_services_cost_nothing() -> None:
    played = world(policy_of("fixed:1"), services=100, end_s=86_400.0)
    played.run([])
    assert played.ticks == 100


def test_no_replica_works_before_it_is_ready() -> None:
    played = world(policy_of("fixed:3"), initial=0)
    seen = played.run(requests(*(0.5 * n for n in range(60))))
    assert seen.outcomes == {ANSWERED: 60}
    assert all(arrived + held >= START_S for arrived, held in zip(seen.arrived_at, seen.held_s, strict=True))


def test_replica_seconds_count_from_asking_to_the_end() -> None:
    seen = world(policy_of("fixed:2"), initial=2, end_s=50.0).run([])
    assert seen.replica_s == pytest.approx(100.0)
    assert seen.gpu_s == pytest.approx(100.0)
    assert seen.cold_starts == 0


def test_a_cold_start_is_paid_for() -> None:
    seen = world(policy_of("fixed:2"), initial=1, end_s=50.0).run([])
    assert seen.replica_s == pytest.approx(100.0 - FIRST_TICK_S)
    assert seen.cold_starts == 1


def test_scale_in_waits_for_streams_and_takes_the_replica_with_the_fewest() -> None:
    law = Scripted(lambda seen: 2 if seen.now < 10.0 else 1)
    played = world(lambda _: law, initial=2)
    seen = played.run([Request(1.0, 1, 3001), Request(1.1, 1, 3001), Request(1.2, 1, 3001)])
    assert seen.outcomes == {ANSWERED: 3}
    draining = [observed for observed in law.seen if observed.draining]
    assert draining
    assert draining[0].streams == [2]
    assert 130.0 < seen.replica_s < 140.0, "the second leaves some 30 s after it was set aside"


def test_a_replica_that_drains_comes_back_when_it_is_wanted_again() -> None:
    law = Scripted(lambda seen: 1 if 10.0 <= seen.now < 20.0 else 2)
    played = world(lambda _: law, initial=2, end_s=60.0)
    seen = played.run([Request(1.0, 1, 4001), Request(1.1, 1, 4001), Request(30.0, 1, 10)])
    assert seen.cold_starts == 0
    assert seen.replica_s == pytest.approx(120.0)


def test_a_start_that_is_no_longer_wanted_is_given_up() -> None:
    law = Scripted(lambda seen: 3 if seen.now < 4.0 else 1)
    seen = world(lambda _: law, initial=1, end_s=60.0).run([])
    assert seen.cold_starts == 0
    assert seen.replica_s == pytest.approx(60.0 + 2 * 4.0)


def test_replicas_beyond_the_gpus_are_not_asked_for() -> None:
    law = Scripted(lambda seen: 10)
    played = world(lambda _: law, initial=1, gpus=4, engine=profile(gpus=2))
    played.run([])
    assert len(played.services[0].replicas) == 2
    assert law.seen[0].room == 2


def test_services_compete_for_gpus_in_the_order_of_asking() -> None:
    played = world(policy_of("fixed:1"), initial=0, gpus=1, services=2, end_s=40.0)
    seen = played.run([Request(0.5, 10, 10, 0), Request(0.6, 10, 10, 1)])
    assert seen.outcomes == {ANSWERED: 1, f"{HELD_TOO_LONG}: placing": 1}
    assert seen.gpu_s < seen.replica_s


def test_replicas_at_the_start_must_fit() -> None:
    with pytest.raises(Internal):
        world(policy_of("fixed:1"), initial=2, gpus=1)


def test_a_hold_ends_at_its_limit() -> None:
    played = world(lambda _: Scripted(lambda seen: 0), initial=0, hold_s=5.0)
    seen = played.run(requests(1.0, 2.0, 3.0))
    assert seen.outcomes == {f"{HELD_TOO_LONG}: nothing starts": 3}
    assert played.services[0].in_flight == 0


def test_a_hold_that_ends_says_how_far_the_start_had_come() -> None:
    seen = world(policy_of("fixed:1"), initial=0, hold_s=4.5).run(requests(1.0))
    assert seen.outcomes == {f"{HELD_TOO_LONG}: loading": 1}


def test_a_request_greater_than_the_memory_is_refused() -> None:
    seen = world(policy_of("fixed:1")).run([Request(1.0, 100_000, 1)])
    assert seen.outcomes == {DOES_NOT_FIT: 1}


def test_with_a_limit_of_requests_per_replica_the_others_are_held() -> None:
    law = Scripted(lambda seen: 1)
    played = world(lambda _: law, container_concurrency=1)
    seen = played.run([Request(1.0, 1, 501), Request(1.1, 1, 501)])
    assert seen.held_s[0] == 0.0
    assert seen.held_s[1] == pytest.approx(seen.latency_s[0] - 0.1)
    assert max(observed.waiting for observed in law.seen) == 1
    assert max(max(observed.streams) for observed in law.seen) == 1


def test_the_law_is_told_every_second_and_nothing_twice() -> None:
    law = Scripted(lambda seen: 1)
    world(lambda _: law, end_s=60.0).run(requests(*(0.25 * n for n in range(1, 200)), output=100))
    seconds = [second for observed in law.seen for second in observed.seconds]
    assert [second.at for second in seconds] == list(range(1, len(seconds) + 1))
    assert sum(second.requests for second in seconds) == 199
    assert sum(len(observed.finished) for observed in law.seen) <= 199
    whole = sum(second.in_flight for second in seconds)
    assert whole == pytest.approx(sum(f.latency_s for o in law.seen for f in o.finished), abs=5.0)


def test_measured_starts_are_told() -> None:
    law = Scripted(lambda seen: 2)
    world(lambda _: law).run(requests(50.0))
    assert law.seen[-1].cold_starts_s == (START_S,)


times = st.lists(st.floats(0.0, 90.0), min_size=1, max_size=60).map(sorted)
sizes = st.lists(st.integers(0, 4), min_size=60, max_size=60)


@settings(max_examples=40, deadline=None)
@given(times, sizes)
def test_whatever_a_law_does_every_request_ends_once(arrivals: list[float], wishes: list[int]) -> None:
    law = Scripted(lambda seen: wishes[min(59, int(seen.now / 2))])
    played = world(lambda _: law, initial=1, hold_s=30.0)
    seen = played.run(requests(*arrivals, output=200))
    assert sum(seen.outcomes.values()) == len(arrivals)
    service = played.services[0]
    assert (
        service.in_flight == sum(replica.in_flight for replica in service.replicas) == len(service.held) == 0
    )


@settings(max_examples=30, deadline=None)
@given(times)
def test_more_replicas_never_make_the_sum_of_waits_longer(arrivals: list[float]) -> None:
    sums = []
    for count in (1, 2, 4):
        seen = world(policy_of(f"fixed:{count}"), initial=count).run(
            requests(*arrivals, prompt=800, output=20)
        )
        sums.append(sum(seen.ttft_s))
    assert all(more <= fewer + 1e-6 for fewer, more in pairwise(sums))


def test_the_same_requests_give_the_same_end() -> None:
    def once() -> list[float]:
        return list(world(policy_of("hpa:target=2")).run(requests(*(0.9 * n for n in range(80)))).ttft_s)

    assert once() == once()
