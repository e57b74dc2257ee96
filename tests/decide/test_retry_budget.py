"""Retries are a share of requests, so that they never multiply an outage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.retry_budget import AT_REST, FLOOR_PER_S, MEMORY_S, SHARE, refilled


def retries_made(requests_per_s: float, seconds: float, step_s: float = 0.1) -> int:
    """Every request fails and wants one retry."""
    balance, made = AT_REST, 0
    for _ in range(int(seconds / step_s)):
        wanted = round(requests_per_s * step_s)
        balance = refilled(balance, wanted, step_s)
        while wanted and balance >= 1.0:
            balance, made, wanted = balance - 1.0, made + 1, wanted - 1
    return made


def test_a_service_at_rest_may_make_thirty_retries_at_once() -> None:
    assert refilled(AT_REST, 0, 1000.0) == pytest.approx(30)
    assert refilled(0.0, 0, 1e6) == pytest.approx(AT_REST)


@pytest.mark.parametrize("rate", [10, 100, 1000])
def test_in_an_outage_a_fifth_of_requests_and_the_floor_are_retried(rate: int) -> None:
    seconds = 100
    allowed = AT_REST + seconds * (FLOOR_PER_S + SHARE * rate)
    assert 0.95 * allowed - 1 <= retries_made(rate, seconds) <= allowed


def test_a_service_with_little_traffic_may_retry_all_of_it() -> None:
    assert retries_made(2, 60, step_s=0.5) == 120


def test_credit_of_busy_times_fades_within_ten_seconds() -> None:
    busy = refilled(AT_REST, 100_000, 100.0)
    assert busy == pytest.approx(AT_REST + SHARE * 1000 * MEMORY_S, rel=0.01)
    assert refilled(busy, 0, 3 * MEMORY_S) < AT_REST + 0.06 * busy


@given(st.floats(-1, 1000), st.integers(0, 1000), st.floats(0, 100), st.floats(0, 1))
def test_looking_at_it_twice_changes_nothing(
    balance: float, requests: int, seconds: float, part: float
) -> None:
    first = int(requests * part)
    if seconds * part <= 0 or seconds * (1 - part) <= 0 or first != requests * part:
        return
    twice = refilled(refilled(balance, first, seconds * part), requests - first, seconds * (1 - part))
    assert twice == pytest.approx(refilled(balance, requests, seconds), abs=1e-6)


@given(st.floats(0, 1000), st.integers(0, 1000), st.floats(-5, 100))
def test_a_balance_never_falls_below_nothing_by_waiting(
    balance: float, requests: int, seconds: float
) -> None:
    assert refilled(balance, requests, seconds) >= -1e-9


@given(st.floats(0, 1000), st.integers(0, 1000), st.floats(0, 1e-3))
def test_requests_that_come_in_no_time_count_as_in_a_little(
    balance: float, requests: int, seconds: float
) -> None:
    assert refilled(balance, requests, seconds) == pytest.approx(
        balance + SHARE * requests, rel=1e-3, abs=1e-2
    )
