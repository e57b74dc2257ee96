"""What one replica bears, from what is seen of all."""

from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exchange import LATENCY_BOUNDS_S
from penstock.decide.capacity import Capacity, first_tokens, late_share, learn, replicas_for


def waited(capacity: float, throughput: float, work: float, ready: int) -> float:
    """The formula of the module, the other way round."""
    busy = throughput / capacity
    return work / capacity * (1 + busy ** (sqrt(2 * (ready + 1)) - 1) / (ready * (1 - busy)))


@given(st.floats(1000, 20000), st.floats(0.05, 0.95), st.floats(100, 5000), st.integers(1, 40))
def test_the_capacity_behind_measured_times_is_found_again(
    capacity: float, busy: float, work: float, ready: int
) -> None:
    ttft_s = waited(capacity, busy * capacity, work, ready)
    found = learn(
        Capacity(),
        answers=500,
        ttft_s=ttft_s,
        throughput=busy * capacity,
        work=work,
        ready=ready,
        as_planned=True,
    )
    assert found.per_replica == pytest.approx(capacity, rel=0.01)


def test_one_replica_is_the_plain_queue_with_one_server() -> None:
    # M/M/1: 1,000 tokens at 4,000 a second while 2,000 a second are done take 1000 / (4000 - 2000).
    assert waited(4000, 2000, 1000, 1) == pytest.approx(0.5)


def test_a_backlog_teaches_no_lower_capacity_but_what_is_done_meanwhile_counts() -> None:
    known = Capacity(per_replica=4000.0, ttft_s=0.3, throughput=1000.0, answers=1000)
    backlog = {"answers": 200, "ttft_s": 30.0, "work": 1000.0, "ready": 4, "as_planned": False}
    assert learn(known, throughput=3000.0, **backlog).per_replica == 4000.0
    assert learn(known, throughput=5000.0, **backlog).per_replica == 5000.0


def test_nothing_answered_teaches_nothing() -> None:
    known = Capacity(per_replica=4000.0)
    assert learn(known, answers=0, ttft_s=0, throughput=0, work=1, ready=1, as_planned=True) is known


@given(st.integers(1, 100), st.floats(0, 1.5), st.floats(0, 50))
def test_late_requests_are_a_share_and_grow_with_the_load(replicas: int, busy: float, slack: float) -> None:
    share = late_share(replicas, busy, slack)
    assert 0.0 <= share <= 1.0
    assert share <= late_share(replicas, busy + 0.05, slack)
    assert share >= late_share(replicas, busy, slack + 1.0)


@given(st.floats(0, 1e6), st.floats(0, 1e5))
def test_more_load_never_needs_fewer_replicas(load: float, more: float) -> None:
    few = replicas_for(load, 4000, 1000, 5.0, 0.005)
    assert 1 <= few <= replicas_for(load + more, 4000, 1000, 5.0, 0.005)
    assert few >= load / 4000 - 0.05


def test_a_promise_that_no_replica_can_keep_does_not_ask_for_ever_more() -> None:
    assert replicas_for(40_000, 4000, 100_000, 1.0, 0.005) == 17


def test_times_are_read_from_buckets_to_within_their_width() -> None:
    counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
    bucket = next(k for k, bound in enumerate(LATENCY_BOUNDS_S) if bound >= 0.5)
    counts[bucket] = 10
    total, mean_s, late = first_tokens(counts, 5.0)
    assert (total, late) == (10, 0.0)
    assert LATENCY_BOUNDS_S[bucket - 1] < mean_s < LATENCY_BOUNDS_S[bucket]
    assert first_tokens(counts, 0.1)[2] == 10.0
    between = (LATENCY_BOUNDS_S[bucket - 1] + LATENCY_BOUNDS_S[bucket]) / 2
    assert 0.0 < first_tokens(counts, between)[2] < 10.0


def test_what_took_longer_than_all_buckets_is_late() -> None:
    counts = (*[0] * len(LATENCY_BOUNDS_S), 3)
    assert first_tokens(counts, 5.0)[2] == 3.0
    assert first_tokens((), 5.0) == (0, 0.0, 0.0)
